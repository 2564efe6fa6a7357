{#-
    Identity resolution: assigns each identifier to a profile.

    The model is a query of links: one row per pair of identifiers that events carried
    together, and one per identifier, with the load_seq of the row's last change. The
    result is the profile of every identifier. The cost depends on the change: only
    profiles that a changed link can reach are resolved again. They are resolved from
    all their links, so the result does not depend on the order the links arrived in.

    Everything is one transaction.
-#}
{% materialization resolved_identity, default %}
    {#- SQLMesh's loader also runs this: there `identifier` is the physical name,
        `is_first_insert` requests a full refresh, and each statement commits. -#}
    {%- set name = identifier | default(model['alias']) -%}
    {%- set nodes = api.Relation.create(
        database=database, schema=schema, identifier=name, type='table'
    ) -%}
    {%- set existing = adapter.get_relation(database, schema, name) -%}

    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {% if existing is none %}
        {% do create_identity_tables(nodes) %}
    {% endif %}
    {% set is_first = is_first_insert | default(false) %}
    {% do resolve_identities(
        links='(' ~ sql ~ ')',
        types=ref('identifier_types'),
        nodes=nodes,
        is_full=existing is none or should_full_refresh() or is_first,
    ) %}

    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% if adapter.commit is defined %}{% do adapter.commit() %}{% endif %}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [nodes]}) }}
{% endmaterialization %}


{#-
    The steps, one file each; docs/identity.md explains the rules. Steps pass on
    temporary tables, in which an identifier is an integer `n`.

        links   query of the links
        types   the seed identifier_types
        nodes   the table of identifiers; its side tables: conflicts, changes
-#}
{% macro resolve_identities(links, types, nodes, is_full) %}
    {% do find_changed_nodes(links, nodes, is_full) %}
    {% do find_hubs(links, types) %}
    {% do find_reached_profiles(links, types, nodes, is_full) %}
    {% do load_reached(links, types, nodes) %}
    {% do join_strong() %}
    {% do keep_limits(types) %}
    {% do attach_weak() %}
    {% do name_profiles() %}
    {% do find_conflicts() %}
    {% do log_profile_changes(nodes) %}
    {% do replace_reached(nodes, is_full) %}
{% endmacro %}
