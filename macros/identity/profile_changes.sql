{#-
    Step: log the changes of existing profiles. A profile goes where the identifier it
    is named after goes: a `merge` joins it with another existing profile, a `rename`
    only changes its id. Identifiers that go elsewhere are a `split`.

    Reads      named_nodes (n, profile_id),
               reached_nodes (n, identifier_type, identifier_value, first_received_at,
                   load_seq, old_profile_id),
               decided_links (all columns)
    Leaves     rows in the side table changes (changed_at, change, from_profile_id,
                   into_profile_id, rule, message_id, load_seq)
    Invariant  Rows are only added: per run at most one merge or rename for each old
               profile_id.
-#}
{% macro log_profile_changes(nodes) %}
    {% call temp_table('moved') %}
        select old_profile_id, profile_id, min(n) as n,
            min(
                case
                    when {{ hash_text("identifier_type || ':' || identifier_value") }}
                        = old_profile_id then 0
                    else 1
                end
            ) as is_not_namesake,
            min(first_received_at) as first_received_at
        from named_nodes
        inner join reached_nodes using (n)
        where old_profile_id is not null
        group by old_profile_id, profile_id
    {% endcall %}
    {% call temp_table('successors') %}
        select old_profile_id, profile_id
        from moved
        qualify row_number() over (
            partition by old_profile_id
            order by is_not_namesake, first_received_at, profile_id
        ) = 1
    {% endcall %}
    {% call statement() %}
        insert into {{ side_table(nodes, 'changes') }}
        with changes as (
            select
                case
                    when count(*) over (partition by profile_id) > 1 then 'merge'
                    else 'rename'
                end as change,
                old_profile_id,
                profile_id
            from successors
            union all
            select 'split', moved.old_profile_id, moved.profile_id
            from moved
            inner join successors using (old_profile_id)
            where moved.profile_id <> successors.profile_id
        ),
        sides as (
            -- a link that joins separate profiles, or one refused within a profile
            select rule is not null as is_split, left_old_profile_id as old_profile_id,
                left_profile_id as profile_id, links.*
            from decided_links as links
            where left_old_profile_id is not null
                and (rule is null)
                = (left_old_profile_id is distinct from right_old_profile_id)
            union all
            select rule is not null, right_old_profile_id, right_profile_id, links.*
            from decided_links as links
            where right_old_profile_id is not null
                and (rule is null)
                = (left_old_profile_id is distinct from right_old_profile_id)
        ),
        causes as (
            select
                changes.change,
                changes.old_profile_id,
                changes.profile_id,
                case
                    when sides.rule is not null then sides.rule
                    when 'weak' in (left_class, right_class) then 'weak_link'
                    else 'strong_link'
                end as rule,
                sides.first_message_id
            from changes
            inner join sides
                on changes.old_profile_id = sides.old_profile_id
                and changes.profile_id = sides.profile_id
                and (changes.change = 'split') = sides.is_split
            where changes.old_profile_id <> changes.profile_id
            qualify row_number() over (
                partition by changes.change, changes.old_profile_id, changes.profile_id
                order by sides.first_received_at, sides.first_message_id,
                    sides.left_type, sides.left_value, sides.right_type, sides.right_value
            ) = 1
        )
        select
            {{ run_instant() }},
            changes.change,
            changes.old_profile_id,
            changes.profile_id,
            causes.rule,
            causes.first_message_id,
            (select max(load_seq) from reached_nodes)
        from changes
        left join causes using (change, old_profile_id, profile_id)
        where changes.old_profile_id <> changes.profile_id
    {% endcall %}
{% endmacro %}
