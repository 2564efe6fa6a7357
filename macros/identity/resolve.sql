{#-
    Identity: who counts as the same person.

    Input: links, one row per pair of identifiers events carried together (and one per
    identifier itself), with a load_seq that says when the row last changed. Output: the
    profile of every identifier. Cost follows the change: only profiles that a changed
    link can reach are worked out anew, and they are worked out from all their links, so
    the result is the same in whatever order the links arrived.

    All of it is one transaction.
-#}
{% materialization resolved_identity, default %}
    {#- SQLMesh's loader runs this too: there `identifier` is the physical name,
        `is_first_insert` asks for a full refresh, and each statement commits itself. -#}
    {%- set name = identifier | default(model['alias']) -%}
    {%- set nodes = api.Relation.create(
        database=database, schema=schema, identifier=name, type='table'
    ) -%}
    {%- set existing = adapter.get_relation(database, schema, name) -%}
    {%- set links = '(' ~ sql ~ ')' -%}
    {%- set types = ref('identifier_types') -%}

    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {% if existing is none %}
        {% do create_identity_tables(nodes) %}
    {% endif %}
    {% set is_first = is_first_insert | default(false) %}
    {% set is_full = existing is none or should_full_refresh() or is_first %}
    {% do find_reach(links, types, nodes, is_full) %}
    {% do join_strong(types) %}
    {% do attach_weak() %}
    {% do name_profiles() %}
    {% do record_changes(nodes) %}
    {% do replace_reached(nodes, is_full) %}

    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% if adapter.commit is defined %}{% do adapter.commit() %}{% endif %}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [nodes]}) }}
{% endmaterialization %}


{#-
    The table `<relation>__<name>` that belongs to a relation. SQLMesh keeps a relation
    under a name of its own, which its adapter tells.
-#}
{% macro beside(relation, name) -%}
    {%- set schema, identifier = relation.schema, relation.identifier -%}
    {%- if adapter.resolve_identifier is defined -%}
        {%- set schema = adapter.resolve_schema(relation) -%}
        {%- set identifier = adapter.resolve_identifier(relation) -%}
    {%- endif -%}
    {{ return(api.Relation.create(
        database=relation.database,
        schema=schema,
        identifier=identifier ~ '__' ~ name,
    )) }}
{%- endmacro %}


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
        create table if not exists {{ beside(nodes, 'conflicts') }} (
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
        create table if not exists {{ beside(nodes, 'changes') }} (
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
    1. What a change can reach: the profiles of changed identifiers, of the neighbours of
    values that became hubs or stopped being one, and every profile that a refused link
    joins to these.

    Leaves: reached_nodes (n, identifier, class, priority, evidence, is_hub, former
    profile), reached_links (with both ends' n where reached, and hub flags).
-#}
{% macro find_reach(links, types, nodes, is_full) %}
    {%- set conflicts = beside(nodes, 'conflicts') -%}
    {% if is_full %}
        {% do scratch('changed_nodes', "
            select distinct left_type as identifier_type, left_value as identifier_value
            from " ~ links ~ "
            where (left_type, left_value) = (right_type, right_value)
        ") %}
    {% else %}
        {% do scratch('changed_nodes', "
            with changed as (
                select * from " ~ links ~ "
                where load_seq > (select coalesce(max(load_seq), -1) from " ~ nodes ~ ")
            )
            select left_type as identifier_type, left_value as identifier_value
            from changed
            union
            select right_type, right_value from changed
        ") %}
    {% endif %}

    {#- Hub rule: too many user_ids on one value, or too many cookies. Fingerprints do
        not count: whoever identifies gets a new one every day. -#}
    {% do scratch('hubs', "
        with sides as (
            select left_type as identifier_type, left_value as identifier_value,
                right_type as other_type
            from " ~ links ~ "
            where count_events > 0
                and (left_type, left_value) <> (right_type, right_value)
            union all
            select right_type, right_value, left_type
            from " ~ links ~ "
            where count_events > 0
                and (left_type, left_value) <> (right_type, right_value)
        ),
        counts as (
            select
                identifier_type,
                identifier_value,
                count(*) filter (where others.priority = 1) as count_stronger,
                count(*) filter (
                    where others.class = 'weak' and others.kind <> 'fingerprint'
                ) as count_weaker
            from sides
            inner join " ~ types ~ " as others on sides.other_type = others.kind
            where identifier_type in (
                select kind from " ~ types ~ "
                where coalesce(max_stronger_links, max_weaker_links) is not null
            )
            and (identifier_type, identifier_value) in (select * from changed_nodes)
            group by identifier_type, identifier_value
        )
        select identifier_type, identifier_value
        from counts
        inner join " ~ types ~ " as types on counts.identifier_type = types.kind
        where count_stronger > max_stronger_links or count_weaker > max_weaker_links
    ") %}
    {% do scratch('reached', "
        with turned as (
            select identifier_type, identifier_value
            from changed_nodes
            left join " ~ nodes ~ " as nodes using (identifier_type, identifier_value)
            where coalesce(nodes.is_hub, false) <> (
                (identifier_type, identifier_value) in (select * from hubs)
            )
        )
        select * from changed_nodes
        union
        select right_type, right_value from " ~ links ~ "
        where (left_type, left_value) in (select * from turned)
        union
        select left_type, left_value from " ~ links ~ "
        where (right_type, right_value) in (select * from turned)
    ") %}
    {% if is_full %}
        {% do scratch('reached_profiles', "select distinct profile_id from " ~ nodes) %}
    {% else %}
        {% do scratch('reached_profiles', "
            select distinct profile_id from " ~ nodes ~ "
            where (identifier_type, identifier_value) in (select * from reached)
        ") %}
        {#- A refused link may be granted once one of its ends changes. -#}
        {% do scratch('refused_between', "
            select distinct lefts.profile_id as left_id, rights.profile_id as right_id
            from " ~ conflicts ~ " as conflicts
            inner join " ~ nodes ~ " as lefts
                on conflicts.left_type = lefts.identifier_type
                and conflicts.left_value = lefts.identifier_value
            inner join " ~ nodes ~ " as rights
                on conflicts.right_type = rights.identifier_type
                and conflicts.right_value = rights.identifier_value
            inner join " ~ types ~ " as types on conflicts.left_type = types.kind
            where rule = 'max_per_profile' or rule = 'later_link' and types.class = 'weak'
        ") %}
        {% for _ in range(100000) %}
            {% do scratch('further_profiles', "
                select right_id as profile_id from refused_between
                where left_id in (select profile_id from reached_profiles)
                union
                select left_id from refused_between
                where right_id in (select profile_id from reached_profiles)
                except
                select profile_id from reached_profiles
            ") %}
            {% if scratch_count('further_profiles') == 0 %}{% break %}{% endif %}
            {% do scratch('reached_profiles', "
                select * from reached_profiles union select * from further_profiles
            ") %}
        {% endfor %}
    {% endif %}

    {% do scratch('reached_nodes', "
        with own as (
            select * from " ~ links ~ "
            where (left_type, left_value) = (right_type, right_value)
        ),
        wanted as (
            select identifier_type, identifier_value from reached
            union
            select identifier_type, identifier_value from " ~ nodes ~ "
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
            nodes.profile_id as former_id,
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
        inner join " ~ types ~ " as types on wanted.identifier_type = types.kind
        left join " ~ nodes ~ " as nodes using (identifier_type, identifier_value)
    ") %}
    {% do scratch('reached_links', "
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
            left_nodes.profile_id as left_former_id,
            right_nodes.profile_id as right_former_id,
            coalesce(lefts.is_hub, left_nodes.is_hub)
            or coalesce(rights.is_hub, right_nodes.is_hub) as is_hub
        from " ~ links ~ " as links
        left join reached_nodes as lefts
            on links.left_type = lefts.identifier_type
            and links.left_value = lefts.identifier_value
        left join reached_nodes as rights
            on links.right_type = rights.identifier_type
            and links.right_value = rights.identifier_value
        left join " ~ nodes ~ " as left_nodes
            on links.left_type = left_nodes.identifier_type
            and links.left_value = left_nodes.identifier_value
        left join " ~ nodes ~ " as right_nodes
            on links.right_type = right_nodes.identifier_type
            and links.right_value = right_nodes.identifier_value
        inner join " ~ types ~ " as left_types on links.left_type = left_types.kind
        inner join " ~ types ~ " as right_types on links.right_type = right_types.kind
        where
            links.count_events > 0
            and (links.left_type, links.left_value)
            <> (links.right_type, links.right_value)
            and (lefts.n is not null or rights.n is not null)
    ") %}
{% endmacro %}


{#-
    2. Strong identifiers. First everything that is linked is one person; only where that
    breaks a limit are the links taken one by one, in their order.

    Leaves: strong (n, component), refused (left_n, right_n).
-#}
{% macro join_strong(types) %}
    {% do scratch('strong_links', "
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
    ") %}
    {% do connected_components(
        'strong',
        "select n from reached_nodes where class = 'strong' and is_shown",
        "select left_n as a, right_n as b from strong_links"
    ) %}
    {% do scratch('over_limit', "
        select distinct component
        from (
            select strong.component, identifier_type, count(*) as count_values
            from strong
            inner join reached_nodes using (n)
            group by strong.component, identifier_type
        ) as held
        inner join " ~ types ~ " as types on held.identifier_type = types.kind
        where count_values > max_per_profile
    ") %}
    {% do scratch('refused', "select left_n, right_n from strong_links where false") %}
    {% if scratch_count('over_limit') > 0 %}
        {% do join_within_limits(types) %}
    {% endif %}
{% endmacro %}


{#-
    The links of components over a limit, one by one in their order. These components are
    few and what they become is small, so the links are fetched and decided here: as rounds
    of SQL a chain of n links took n rounds (this model on 1,600 links: 206 s, now 0.6 s;
    2 cores, 2026-11-21).
-#}
{% macro join_within_limits(types) %}
    {%- set limits = {} -%}
    {%- for row in run_query(
        "select kind, max_per_profile from " ~ types ~ " where max_per_profile is not null"
    ).rows -%}
        {%- do limits.update({row[0]: row[1] | int}) -%}
    {%- endfor -%}
    {%- set links = run_query("
        select left_n, lefts.identifier_type, right_n, rights.identifier_type as other
        from strong_links
        inner join strong on left_n = strong.n
        inner join over_limit using (component)
        inner join reached_nodes as lefts on left_n = lefts.n
        inner join reached_nodes as rights on right_n = rights.n
        order by place
    ") -%}
    {%- set side_of, members, held, refused = {}, {}, {}, [] -%}
    {%- for row in links.rows -%}
        {%- for n, kind in [(row[0] | int, row[1]), (row[2] | int, row[3])]
            if n not in side_of -%}
            {%- do side_of.update({n: n}) -%}
            {%- do members.update({n: [n]}) -%}
            {%- do held.update({n: {kind: 1}}) -%}
        {%- endfor -%}
        {%- set left, right = side_of[row[0] | int], side_of[row[2] | int] -%}
        {%- if left != right -%}
            {%- set fits = namespace(all=true) -%}
            {%- for kind, count in held[right].items() if kind in limits -%}
                {%- if count + held[left].get(kind, 0) > limits[kind] -%}
                    {%- set fits.all = false -%}
                {%- endif -%}
            {%- endfor -%}
            {%- if not fits.all -%}
                {%- do refused.append((row[0] | int, row[2] | int)) -%}
            {%- else -%}
                {%- set is_left = members[left] | length >= members[right] | length -%}
                {%- set large = left if is_left else right -%}
                {%- set small = right if is_left else left -%}
                {%- for n in members.pop(small) -%}
                    {%- do side_of.update({n: large}) -%}
                    {%- do members[large].append(n) -%}
                {%- endfor -%}
                {%- for kind, count in held.pop(small).items() -%}
                    {%- set count = count + held[large].get(kind, 0) -%}
                    {%- do held[large].update({kind: count}) -%}
                {%- endfor -%}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}
    {% do scratch('rejoined', "select n, component from strong where false") %}
    {% do scratch_fill('rejoined', side_of.items()) %}
    {% do scratch_fill('refused', refused) %}
    {% do scratch('strong', "
        select n, coalesce(rejoined.component, strong.component) as component
        from strong
        left join rejoined using (n)
    ") %}
{% endmacro %}


{#-
    3. Weak identifiers: each belongs where it was first seen.

    Leaves: placed (n, place): a strong component, a profile outside the reach, or a
    group of weak identifiers of its own.
-#}
{% macro attach_weak() %}
    {% do scratch('sides', "
        select left_n as n, right_n as other_n, left_class as class,
            right_class as other_class, right_type as other_type,
            right_value as other_value, right_former_id as other_former_id,
            first_received_at, first_message_id
        from reached_links
        where not is_hub and left_n is not null
        union all
        select right_n, left_n, right_class, left_class, left_type, left_value,
            left_former_id, first_received_at, first_message_id
        from reached_links
        where not is_hub and right_n is not null
    ") %}
    {% do scratch('attached', "
        select
            sides.n,
            coalesce('strong ' || strong.component, other_former_id) as place
        from sides
        left join strong on sides.other_n = strong.n
        where sides.class = 'weak' and other_class = 'strong'
        qualify row_number() over (
            partition by sides.n
            order by first_received_at, first_message_id, other_type, other_value
        ) = 1
    ") %}
    {% do scratch('follows', "
        select n, other_n
        from sides
        where class = 'weak' and other_class = 'weak'
            and n not in (select n from attached)
        qualify row_number() over (
            partition by n
            order by first_received_at, first_message_id, other_type, other_value
        ) = 1
    ") %}
    {% do connected_components(
        'weak',
        "select n from reached_nodes where class = 'weak' and is_shown",
        "select n as a, other_n as b from follows where other_n is not null"
    ) %}
    {% do scratch('placed', "
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
    ") %}
{% endmacro %}


{#-
    4. A profile's id is the hash of its earliest strong identifier, else of its
    earliest weak one. Leaves: named (n, profile_id).
-#}
{% macro name_profiles() %}
    {% do scratch('named', "
        with first_of_place as (
            select place, " ~ hash_text("identifier_type || ':' || identifier_value")
                ~ " as profile_id
            from placed
            inner join reached_nodes using (n)
            qualify row_number() over (
                partition by place
                order by class = 'weak', first_received_at, first_message_id,
                    identifier_type, identifier_value
            ) = 1
        ),
        outside as (
            select distinct place from placed
            where place not like 'strong %' and place not like 'weak %'
        )
        select n, coalesce(outside.place, first_of_place.profile_id) as profile_id
        from placed
        inner join first_of_place using (place)
        left join outside using (place)
    ") %}
    {% do scratch('judged_links', "
        select
            links.*,
            coalesce(lefts.profile_id, left_former_id) as left_id,
            coalesce(rights.profile_id, right_former_id) as right_id,
            case
                when is_hub then 'hub'
                when refused.left_n is not null then 'max_per_profile'
                when coalesce(lefts.profile_id, left_former_id)
                    <> coalesce(rights.profile_id, right_former_id) then 'later_link'
            end as rule
        from reached_links as links
        left join named as lefts on links.left_n = lefts.n
        left join named as rights on links.right_n = rights.n
        left join refused
            on links.left_n = refused.left_n and links.right_n = refused.right_n
    ") %}
{% endmacro %}


{#-
    5. The log. A former profile goes where the identifier went that it was named after:
    `merge` into a person that was there before or comes together now, `rename` when
    only the id changed. Identifiers that went elsewhere are a `split`.
-#}
{% macro record_changes(nodes) %}
    {% do scratch('moved', "
        select former_id, profile_id, min(n) as n,
            min(case when " ~ hash_text("identifier_type || ':' || identifier_value")
                ~ " = former_id then 0 else 1 end) as is_not_namesake,
            min(first_received_at) as first_received_at
        from named
        inner join reached_nodes using (n)
        where former_id is not null
        group by former_id, profile_id
    ") %}
    {% do scratch('successors', "
        select former_id, profile_id
        from moved
        qualify row_number() over (
            partition by former_id
            order by is_not_namesake, first_received_at, profile_id
        ) = 1
    ") %}
    {% call statement() %}
        insert into {{ beside(nodes, 'changes') }}
        with changes as (
            select
                case
                    when count(*) over (partition by profile_id) > 1 then 'merge'
                    else 'rename'
                end as change,
                former_id,
                profile_id
            from successors
            union all
            select 'split', moved.former_id, moved.profile_id
            from moved
            inner join successors using (former_id)
            where moved.profile_id <> successors.profile_id
        ),
        sides as (
            -- a link that joins what was apart, or one refused where all was one
            select rule is not null as is_split, left_former_id as former_id,
                left_id as profile_id, links.*
            from judged_links as links
            where left_former_id is not null
                and (rule is null) = (left_former_id is distinct from right_former_id)
            union all
            select rule is not null, right_former_id, right_id, links.*
            from judged_links as links
            where right_former_id is not null
                and (rule is null) = (left_former_id is distinct from right_former_id)
        ),
        causes as (
            select
                changes.change,
                changes.former_id,
                changes.profile_id,
                case
                    when sides.rule is not null then sides.rule
                    when 'weak' in (left_class, right_class) then 'weak_link'
                    else 'strong_link'
                end as rule,
                sides.first_message_id
            from changes
            inner join sides
                on changes.former_id = sides.former_id
                and changes.profile_id = sides.profile_id
                and (changes.change = 'split') = sides.is_split
            where changes.former_id <> changes.profile_id
            qualify row_number() over (
                partition by changes.change, changes.former_id, changes.profile_id
                order by sides.first_received_at, sides.first_message_id,
                    sides.left_type, sides.left_value, sides.right_type, sides.right_value
            ) = 1
        )
        select
            {{ run_instant() }},
            changes.change,
            changes.former_id,
            changes.profile_id,
            causes.rule,
            causes.first_message_id,
            (select max(load_seq) from reached_nodes)
        from changes
        left join causes using (change, former_id, profile_id)
        where changes.former_id <> changes.profile_id
    {% endcall %}
{% endmacro %}


{#-
    6. Put the reached part in place of what it was. In full nothing former is kept: the
    links of an identifier that no event carries any longer are gone without a trace.
-#}
{% macro replace_reached(nodes, is_full) %}
    {%- set conflicts = beside(nodes, 'conflicts') -%}
    {#- One statement a call: SQLMesh would run the first of several and drop the rest. -#}
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
        from judged_links
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
        inner join named using (n)
    {% endcall %}
{% endmacro %}
