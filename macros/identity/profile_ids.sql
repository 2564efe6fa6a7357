{#-
    Step: name profiles. The profile_id is the hash of the profile's earliest strong
    identifier, else of its earliest weak one.

    Reads      placed_nodes (n, place),
               reached_nodes (n, identifier_type, identifier_value, class,
                   first_received_at, first_message_id)
    Leaves     named_nodes (n, profile_id)
    Invariant  One row per placed node. Two nodes have the same profile_id if and only
               if they have the same place.
-#}
{% macro name_profiles() %}
    {% call temp_table('named_nodes') %}
        with first_of_place as (
            select
                place,
                {{ hash_text("identifier_type || ':' || identifier_value") }} as profile_id
            from placed_nodes
            inner join reached_nodes using (n)
            qualify row_number() over (
                partition by place
                order by class = 'weak', first_received_at, first_message_id,
                    identifier_type, identifier_value
            ) = 1
        ),
        outside as (
            select distinct place from placed_nodes
            where place not like 'strong %' and place not like 'weak %'
        )
        select n, coalesce(outside.place, first_of_place.profile_id) as profile_id
        from placed_nodes
        inner join first_of_place using (place)
        left join outside using (place)
    {% endcall %}
{% endmacro %}
