{#-
    Step: find the identifiers whose links changed since the last run; in full, all.

    Reads      links, nodes (load_seq)
    Leaves     changed_nodes (identifier_type, identifier_value)
    Invariant  Holds both ends of every link whose load_seq is later than that of all
               nodes. The links of any other identifier are unchanged.
-#}
{% macro find_changed_nodes(links, nodes, is_full) %}
    {% call temp_table('changed_nodes') %}
        {% if is_full %}
        select distinct left_type as identifier_type, left_value as identifier_value
        from {{ links }}
        where (left_type, left_value) = (right_type, right_value)
        {% else %}
        with changed as (
            select * from {{ links }}
            where load_seq > (select coalesce(max(load_seq), -1) from {{ nodes }})
        )
        select left_type as identifier_type, left_value as identifier_value
        from changed
        union
        select right_type, right_value from changed
        {% endif %}
    {% endcall %}
{% endmacro %}
