{#-
    Step: limit a profile to max_per_profile values of a type. Only components over a
    limit are split and joined again, link by link.

    Reads      types, reached_nodes (n, identifier_type),
               strong_links (left_n, right_n, place), strong (n, component)
    Leaves     refused (left_n, right_n),
               strong (n, component), replaced where a component was over a limit
    Invariant  No component of strong is over a limit. A link is in refused if and only
               if, after the links before it in place, the components of its ends were
               separate and together over a limit.
-#}
{% macro keep_limits(types) %}
    {% call temp_table('over_limit') %}
        select distinct component
        from (
            select strong.component, identifier_type, count(*) as count_values
            from strong
            inner join reached_nodes using (n)
            group by strong.component, identifier_type
        ) as held
        inner join {{ types }} as types using (identifier_type)
        where count_values > max_per_profile
    {% endcall %}
    {% call temp_table('refused') %}
        select left_n, right_n from strong_links where false
    {% endcall %}
    {% if row_count('over_limit') > 0 %}
        {% do join_within_limits(types) %}
    {% endif %}
{% endmacro %}


{#-
    Joins the links of components over a limit one by one, in order. These components
    are few and small once split, so this is a loop: as rounds of SQL a chain of n links
    took n rounds (this model on 1,600 links: 206 s, now 0.6 s; 2 cores, 2026-11-21).
-#}
{% macro join_within_limits(types) %}
    {%- set limits_query -%}
        select identifier_type, max_per_profile from {{ types }}
        where max_per_profile is not null
    {%- endset -%}
    {%- set links_query -%}
        select left_n, lefts.identifier_type, right_n, rights.identifier_type as other
        from strong_links
        inner join strong on left_n = strong.n
        inner join over_limit using (component)
        inner join reached_nodes as lefts on left_n = lefts.n
        inner join reached_nodes as rights on right_n = rights.n
        order by place
    {%- endset -%}
    {%- set limits = {} -%}
    {%- for row in run_query(limits_query).rows -%}
        {%- do limits.update({row[0]: row[1] | int}) -%}
    {%- endfor -%}
    {#- n → its group; per group its members, and the number of values of each type. -#}
    {%- set group_of, members, counts, refused = {}, {}, {}, [] -%}
    {%- for row in run_query(links_query).rows -%}
        {%- for n, type in [(row[0] | int, row[1]), (row[2] | int, row[3])]
            if n not in group_of -%}
            {%- do group_of.update({n: n}) -%}
            {%- do members.update({n: [n]}) -%}
            {%- do counts.update({n: {type: 1}}) -%}
        {%- endfor -%}
        {%- set left, right = group_of[row[0] | int], group_of[row[2] | int] -%}
        {%- if left != right -%}
            {%- set fits = namespace(all=true) -%}
            {%- for type, count in counts[right].items() if type in limits -%}
                {%- if count + counts[left].get(type, 0) > limits[type] -%}
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
                    {%- do group_of.update({n: large}) -%}
                    {%- do members[large].append(n) -%}
                {%- endfor -%}
                {%- for type, count in counts.pop(small).items() -%}
                    {%- set count = count + counts[large].get(type, 0) -%}
                    {%- do counts[large].update({type: count}) -%}
                {%- endfor -%}
            {%- endif -%}
        {%- endif -%}
    {%- endfor -%}
    {% call temp_table('rejoined') %}
        select n, component from strong where false
    {% endcall %}
    {% do insert_pairs('rejoined', group_of.items()) %}
    {% do insert_pairs('refused', refused) %}
    {% call temp_table('strong') %}
        select n, coalesce(rejoined.component, strong.component) as component
        from strong
        left join rejoined using (n)
    {% endcall %}
{% endmacro %}
