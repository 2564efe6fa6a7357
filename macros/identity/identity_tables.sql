{#- Creates the table of identifiers and its side tables, empty. -#}
{% macro create_identity_tables(nodes) %}
    {% call statement() %}
        create table {{ nodes }} (
            identifier_type varchar,
            identifier_value varchar,
            profile_id varchar,
            first_received_at timestamp,
            first_message_id varchar,
            is_hub boolean,
            load_seq bigint
        )
    {% endcall %}
    {% call statement() %}
        create table if not exists {{ side_table(nodes, 'conflicts') }} (
            rule varchar,
            left_type varchar,
            left_value varchar,
            right_type varchar,
            right_value varchar,
            message_id varchar,
            received_at timestamp
        )
    {% endcall %}
    {% call statement() %}
        create table if not exists {{ side_table(nodes, 'changes') }} (
            changed_at timestamp,
            change varchar,
            from_profile_id varchar,
            into_profile_id varchar,
            rule varchar,
            message_id varchar,
            load_seq bigint
        )
    {% endcall %}
{% endmacro %}


{#-
    Step: replace the reached rows. A full run keeps no old rows: the links of an
    identifier that no event carries any longer leave no trace.

    Reads      reached_nodes (n, identifier_type, identifier_value, first_received_at,
                   first_message_id, is_hub, load_seq),
               named_nodes (n, profile_id), decided_links (all columns)
    Leaves     nodes (identifier_type, identifier_value, profile_id, first_received_at,
                   first_message_id, is_hub, load_seq)
               the side table conflicts (rule, left_type, left_value, right_type,
                   right_value, message_id, received_at)
    Invariant  nodes has one row per identifier that an event still shows, conflicts one
               per refused link. Rows without a reached identifier are unchanged.
-#}
{% macro replace_reached(nodes, is_full) %}
    {%- set conflicts = side_table(nodes, 'conflicts') -%}
    {#- One statement per call: SQLMesh would run only the first of several. -#}
    {% call statement() %}
        delete from {{ conflicts }}
        {%- if not is_full %}
        where
            (left_type, left_value) in (
                select identifier_type, identifier_value from reached_nodes
            )
            or (right_type, right_value) in (
                select identifier_type, identifier_value from reached_nodes
            )
        {%- endif %}
    {% endcall %}
    {% call statement() %}
        insert into {{ conflicts }}
        select
            rule,
            left_type,
            left_value,
            right_type,
            right_value,
            first_message_id,
            first_received_at
        from decided_links
        where rule is not null
    {% endcall %}
    {% call statement() %}
        delete from {{ nodes }}
        {%- if not is_full %}
        where (identifier_type, identifier_value) in (
            select identifier_type, identifier_value from reached_nodes
        )
        {%- endif %}
    {% endcall %}
    {% call statement('main') %}
        insert into {{ nodes }}
        select
            identifier_type,
            identifier_value,
            profile_id,
            first_received_at,
            first_message_id,
            is_hub,
            load_seq
        from reached_nodes
        inner join named_nodes using (n)
    {% endcall %}
{% endmacro %}
