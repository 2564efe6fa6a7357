{#-
    Step: attach each weak identifier where it was first seen: to the strong identifier
    of its earliest link, else to the weak one of its earliest link.

    Reads      reached_nodes (n, class, is_shown),
               reached_links (left_n, right_n, left_type, left_value, right_type,
                   right_value, left_class, right_class, left_old_profile_id,
                   right_old_profile_id, first_received_at, first_message_id, is_hub),
               strong (n, component)
    Leaves     placed_nodes (n, place); a place is `strong <component>`,
                   `weak <component>`, or the id of a profile outside the reach
    Invariant  One row per reached identifier that an event still shows. A weak
               identifier never joins two strong components.
-#}
{% macro attach_weak() %}
    {% call temp_table('sides') %}
        select left_n as n, right_n as other_n, left_class as class,
            right_class as other_class, right_type as other_type,
            right_value as other_value, right_old_profile_id as other_old_profile_id,
            first_received_at, first_message_id
        from reached_links
        where not is_hub and left_n is not null
        union all
        select right_n, left_n, right_class, left_class, left_type, left_value,
            left_old_profile_id, first_received_at, first_message_id
        from reached_links
        where not is_hub and right_n is not null
    {% endcall %}
    {% call temp_table('attached') %}
        select
            sides.n,
            coalesce('strong ' || strong.component, other_old_profile_id) as place
        from sides
        left join strong on sides.other_n = strong.n
        where sides.class = 'weak' and other_class = 'strong'
        qualify row_number() over (
            partition by sides.n
            order by first_received_at, first_message_id, other_type, other_value
        ) = 1
    {% endcall %}
    {% call temp_table('follows') %}
        select n, other_n
        from sides
        where class = 'weak' and other_class = 'weak'
            and n not in (select n from attached)
        qualify row_number() over (
            partition by n
            order by first_received_at, first_message_id, other_type, other_value
        ) = 1
    {% endcall %}
    {%- set vertices -%}
        select n from reached_nodes where class = 'weak' and is_shown
    {%- endset -%}
    {%- set edges -%}
        select n as a, other_n as b from follows where other_n is not null
    {%- endset -%}
    {% do connected_components('weak', vertices, edges) %}
    {% call temp_table('placed_nodes') %}
        with groups as (
            select weak.component, min(attached.place) as place
            from weak
            inner join attached using (n)
            group by weak.component
        )
        select n, coalesce(groups.place, 'weak ' || weak.component) as place
        from weak
        left join groups using (component)
        union all
        select n, 'strong ' || component from strong
    {% endcall %}
{% endmacro %}
