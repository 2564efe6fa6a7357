{#-
    Step: find the profiles a change can reach. These are the profiles of changed
    identifiers, of the neighbors of values that became hubs or stopped being hubs, and
    every profile that a conflict connects to one of them.

    Reads      links, types, nodes, conflicts,
               changed_nodes (identifier_type, identifier_value),
               hubs (identifier_type, identifier_value)
    Leaves     reached (identifier_type, identifier_value),
               reached_profiles (profile_id)
    Invariant  A profile outside it stays the same, whatever the links of this run.
-#}
{% macro find_reached_profiles(links, types, nodes, is_full) %}
    {% call temp_table('reached') %}
        with turned as (
            select identifier_type, identifier_value
            from changed_nodes
            left join {{ nodes }} as nodes using (identifier_type, identifier_value)
            where coalesce(nodes.is_hub, false) <> (
                (identifier_type, identifier_value) in (select * from hubs)
            )
        )
        select * from changed_nodes
        union
        select right_type, right_value from {{ links }}
        where (left_type, left_value) in (select * from turned)
        union
        select left_type, left_value from {{ links }}
        where (right_type, right_value) in (select * from turned)
    {% endcall %}
    {% if is_full %}
        {% call temp_table('reached_profiles') %}
            select distinct profile_id from {{ nodes }}
        {% endcall %}
    {% else %}
        {% call temp_table('reached_profiles') %}
            select distinct profile_id from {{ nodes }}
            where (identifier_type, identifier_value) in (select * from reached)
        {% endcall %}
        {% do follow_conflicts(types, nodes) %}
    {% endif %}
{% endmacro %}


{#-
    A refused link may be accepted once one of its ends changes, so follow conflicts to
    the profiles of their other ends.
-#}
{% macro follow_conflicts(types, nodes) %}
    {% call temp_table('refused_between') %}
        select distinct
            lefts.profile_id as left_profile_id,
            rights.profile_id as right_profile_id
        from {{ side_table(nodes, 'conflicts') }} as conflicts
        inner join {{ nodes }} as lefts
            on conflicts.left_type = lefts.identifier_type
            and conflicts.left_value = lefts.identifier_value
        inner join {{ nodes }} as rights
            on conflicts.right_type = rights.identifier_type
            and conflicts.right_value = rights.identifier_value
        inner join {{ types }} as types on conflicts.left_type = types.identifier_type
        where rule = 'max_per_profile' or rule = 'later_link' and types.class = 'weak'
    {% endcall %}
    {% for _ in range(100000) %}
        {% call temp_table('further_profiles') %}
            select right_profile_id as profile_id from refused_between
            where left_profile_id in (select profile_id from reached_profiles)
            union
            select left_profile_id from refused_between
            where right_profile_id in (select profile_id from reached_profiles)
            except
            select profile_id from reached_profiles
        {% endcall %}
        {% if row_count('further_profiles') == 0 %}{% break %}{% endif %}
        {% call temp_table('reached_profiles') %}
            select * from reached_profiles union select * from further_profiles
        {% endcall %}
    {% endfor %}
{% endmacro %}


{#-
    Step: load the identifiers and links of the reached profiles, numbered. The next
    steps use integers; the text is joined again at the end.

    Reads      links, types, nodes,
               changed_nodes (identifier_type, identifier_value),
               hubs (identifier_type, identifier_value),
               reached (identifier_type, identifier_value),
               reached_profiles (profile_id)
    Leaves     reached_nodes (n, identifier_type, identifier_value, class, priority,
                   first_received_at, first_message_id, load_seq, old_profile_id,
                   is_shown, is_hub)
               reached_links (left_type, left_value, right_type, right_value,
                   first_received_at, first_message_id, left_n, right_n, left_class,
                   right_class, left_priority, right_priority, left_old_profile_id,
                   right_old_profile_id, is_hub)
    Invariant  reached_links holds every link with an end in reached_nodes that an event
               still shows. An end outside the reach has no n and keeps its profile;
               is_hub of a link is true if one of its ends is a hub.
-#}
{% macro load_reached(links, types, nodes) %}
    {% call temp_table('reached_nodes') %}
        with own as (
            select * from {{ links }}
            where (left_type, left_value) = (right_type, right_value)
        ),
        wanted as (
            select identifier_type, identifier_value from reached
            union
            select identifier_type, identifier_value from {{ nodes }}
            where profile_id in (select profile_id from reached_profiles)
        )
        select
            row_number() over () as n,
            identifier_type,
            identifier_value,
            types.class,
            types.priority,
            own.first_received_at,
            own.first_message_id,
            own.load_seq,
            nodes.profile_id as old_profile_id,
            own.count_events > 0 as is_shown,
            case
                when (identifier_type, identifier_value) in (select * from changed_nodes)
                then (identifier_type, identifier_value) in (select * from hubs)
                else coalesce(nodes.is_hub, false)
            end as is_hub
        from wanted
        inner join own
            on wanted.identifier_type = own.left_type
            and wanted.identifier_value = own.left_value
        inner join {{ types }} as types using (identifier_type)
        left join {{ nodes }} as nodes using (identifier_type, identifier_value)
    {% endcall %}
    {% call temp_table('reached_links') %}
        select
            links.left_type,
            links.left_value,
            links.right_type,
            links.right_value,
            links.first_received_at,
            links.first_message_id,
            lefts.n as left_n,
            rights.n as right_n,
            left_types.class as left_class,
            right_types.class as right_class,
            left_types.priority as left_priority,
            right_types.priority as right_priority,
            left_nodes.profile_id as left_old_profile_id,
            right_nodes.profile_id as right_old_profile_id,
            coalesce(lefts.is_hub, left_nodes.is_hub)
            or coalesce(rights.is_hub, right_nodes.is_hub) as is_hub
        from {{ links }} as links
        left join reached_nodes as lefts
            on links.left_type = lefts.identifier_type
            and links.left_value = lefts.identifier_value
        left join reached_nodes as rights
            on links.right_type = rights.identifier_type
            and links.right_value = rights.identifier_value
        left join {{ nodes }} as left_nodes
            on links.left_type = left_nodes.identifier_type
            and links.left_value = left_nodes.identifier_value
        left join {{ nodes }} as right_nodes
            on links.right_type = right_nodes.identifier_type
            and links.right_value = right_nodes.identifier_value
        inner join {{ types }} as left_types
            on links.left_type = left_types.identifier_type
        inner join {{ types }} as right_types
            on links.right_type = right_types.identifier_type
        where
            links.count_events > 0
            and (links.left_type, links.left_value)
            <> (links.right_type, links.right_value)
            and (lefts.n is not null or rights.n is not null)
    {% endcall %}
{% endmacro %}
