{#-
    Step: join strong identifiers connected by links into one person, ignoring limits.

    Reads      reached_nodes (n, class, is_shown),
               reached_links (left_n, right_n, left_type, left_value, right_type,
                   right_value, left_class, right_class, left_priority, right_priority,
                   first_received_at, first_message_id, is_hub)
    Leaves     strong_links (left_n, right_n, place), where place is the order in which
                   links join: the most trusted types first, then the earliest
               strong (n, component)
    Invariant  strong has one row per strong identifier that an event still shows. Two
               of them share a component if and only if a path of strong_links connects
               them; no strong_link touches a hub.
-#}
{% macro join_strong() %}
    {% call temp_table('strong_links') %}
        select
            left_n,
            right_n,
            row_number() over (
                order by greatest(left_priority, right_priority),
                    least(left_priority, right_priority),
                    first_received_at, first_message_id,
                    left_type, left_value, right_type, right_value
            ) as place
        from reached_links
        where left_class = 'strong' and right_class = 'strong' and not is_hub
    {% endcall %}
    {%- set vertices -%}
        select n from reached_nodes where class = 'strong' and is_shown
    {%- endset -%}
    {%- set edges -%}
        select left_n as a, right_n as b from strong_links
    {%- endset -%}
    {% do connected_components('strong', vertices, edges) %}
{% endmacro %}
