{#-
    Step: find hubs, values with more links than one person has.

    Reads      links, types, changed_nodes (identifier_type, identifier_value)
    Leaves     hubs (identifier_type, identifier_value)
    Invariant  Holds a changed identifier if and only if it is linked to more than
               max_stronger_links user_ids, or to more than max_weaker_links weak values
               without fingerprints. Identifiers that did not change keep their is_hub.
-#}
{% macro find_hubs(links, types) %}
    {#- Fingerprints do not count: each person gets a new one every day. -#}
    {% call temp_table('hubs') %}
        with sides as (
            select left_type as identifier_type, left_value as identifier_value,
                right_type as other_type
            from {{ links }}
            where count_events > 0
                and (left_type, left_value) <> (right_type, right_value)
            union all
            select right_type, right_value, left_type
            from {{ links }}
            where count_events > 0
                and (left_type, left_value) <> (right_type, right_value)
        ),
        counts as (
            select
                sides.identifier_type,
                sides.identifier_value,
                count(*) filter (where others.priority = 1) as count_stronger,
                count(*) filter (
                    where others.class = 'weak' and others.identifier_type <> 'fingerprint'
                ) as count_weaker
            from sides
            inner join {{ types }} as others on sides.other_type = others.identifier_type
            where sides.identifier_type in (
                select limited.identifier_type from {{ types }} as limited
                where coalesce(max_stronger_links, max_weaker_links) is not null
            )
            and (sides.identifier_type, sides.identifier_value)
                in (select * from changed_nodes)
            group by sides.identifier_type, sides.identifier_value
        )
        select identifier_type, identifier_value
        from counts
        inner join {{ types }} as types using (identifier_type)
        where count_stronger > max_stronger_links or count_weaker > max_weaker_links
    {% endcall %}
{% endmacro %}
