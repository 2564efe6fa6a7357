{#-
    Step: find the conflicts, which are the links a rule refused.

    Reads      reached_links (all columns), refused (left_n, right_n),
               named_nodes (n, profile_id)
    Leaves     decided_links (the columns of reached_links, left_profile_id,
                   right_profile_id, rule)
    Invariant  One row per reached link. rule is null if and only if the link was
               accepted, and then both ends have the same profile.
-#}
{% macro find_conflicts() %}
    {% call temp_table('decided_links') %}
        select
            links.*,
            coalesce(lefts.profile_id, left_old_profile_id) as left_profile_id,
            coalesce(rights.profile_id, right_old_profile_id) as right_profile_id,
            case
                when is_hub then 'hub'
                when refused.left_n is not null then 'max_per_profile'
                when coalesce(lefts.profile_id, left_old_profile_id)
                    <> coalesce(rights.profile_id, right_old_profile_id)
                    then 'later_link'
            end as rule
        from reached_links as links
        left join named_nodes as lefts on links.left_n = lefts.n
        left join named_nodes as rights on links.right_n = rights.n
        left join refused
            on links.left_n = refused.left_n and links.right_n = refused.right_n
    {% endcall %}
{% endmacro %}
