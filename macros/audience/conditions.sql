{#-
    The conditions of audiences. A condition is a dictionary, either `sql`, a query of
    profile ids, or `conditions` joined as `kind` says.

    Windows are half-open and end at the as-of instant: [as_of - n days, as_of), UTC.
-#}

{#- The whole model of an audience: every profile that meets the conditions. -#}
{% macro audience(all_of=none, any_of=none, none_of=none) -%}
    select profiles.profile_id
    from {{ ref('profiles') }} as profiles
    where {{ meets(grouped(all_of, any_of, none_of)) }}
{%- endmacro %}

{#- Requires all conditions. Can be nested in `audience` and in the two below. -#}
{% macro all_of(conditions) -%}
    {{ return({'kind': 'and', 'conditions': conditions}) }}
{%- endmacro %}

{#- Requires at least one condition. -#}
{% macro any_of(conditions) -%}
    {{ return({'kind': 'or', 'conditions': conditions}) }}
{%- endmacro %}

{#- Requires that no condition holds. -#}
{% macro none_of(conditions) -%}
    {{ return({'kind': 'nor', 'conditions': conditions}) }}
{%- endmacro %}

{#-
    Profiles with a number of events.

    event: snake_case name; page and screen calls are named `page` and `screen`.
    at_least, at_most: counts, both inclusive. within_days: the window; none: all time.
    where: {property: value} or {property: {op: value}} with op one of equals,
    not_equals, one_of, at_least, at_most, more_than, less_than, contains, exists.
-#}
{% macro event_count(event, at_least=1, at_most=none, within_days=none, where=none) -%}
    {%- if at_least < 1 -%}
        {{ exceptions.raise_compiler_error(
            "event_count('" ~ event ~ "'): at_least must be 1 or more; to ask for people"
            ~ " who did it at most n times, leave out those with at_least=n + 1: "
            ~ "none_of([event_count('" ~ event ~ "', at_least=…)])."
        ) }}
    {%- endif -%}
    {%- do note_name('event', event) -%}
    {%- set sql -%}
        select events.profile_id
        from {{ ref('profile_events') }} as events
        where
            events.event = {{ literal(event) }}
            and events.timestamp < {{ run_instant() }}
            {%- if within_days is not none %}
            and events.timestamp >= {{ days_before(run_instant(), within_days) }}
            {%- endif %}
            {%- for property, wanted in (where or {}).items() %}
            and {{ compared(json_member('events.properties', property), wanted) }}
            {%- endfor %}
        group by events.profile_id
        having count(*) >= {{ at_least }}
        {%- if at_most is not none %} and count(*) <= {{ at_most }}{% endif %}
    {%- endset -%}
    {{ return({'kind': 'in', 'sql': sql}) }}
{%- endmacro %}

{#- Profiles without an event, ever or in the window. -#}
{% macro did_not(event, within_days=none, where=none) -%}
    {{ return(none_of([event_count(event, within_days=within_days, where=where)])) }}
{%- endmacro %}

{#-
    Profiles with a trait. Takes exactly one comparison. Texts are compared exactly; a
    profile without the trait matches only exists=false. A name without `$` falls back
    to the system field of that name.
-#}
{% macro trait(
    name, equals=none, not_equals=none, one_of=none, at_least=none, at_most=none,
    more_than=none, less_than=none, contains=none, exists=none
) -%}
    {%- set comparisons = {} -%}
    {%- for op, value in [
        ('equals', equals), ('not_equals', not_equals), ('one_of', one_of),
        ('at_least', at_least), ('at_most', at_most), ('more_than', more_than),
        ('less_than', less_than), ('contains', contains), ('exists', exists)
    ] -%}
        {%- if value is not none -%}{%- do comparisons.update({op: value}) -%}{%- endif -%}
    {%- endfor -%}
    {%- if comparisons | length != 1 -%}
        {{ exceptions.raise_compiler_error(
            "trait('" ~ name ~ "'): pass exactly one comparison, e.g. equals='free'."
        ) }}
    {%- endif -%}
    {%- do note_name('trait', name) -%}
    {%- set value -%}
        coalesce(
            {{ json_member('people.traits', name) }}
            {%- if not name.startswith('$') %},
            {{ json_member('people.traits', '$' ~ name) }}
            {%- endif %}
        )
    {%- endset -%}
    {%- set sql -%}
        select people.profile_id
        from {{ ref('profiles') }} as people
        where {{ compared(value, comparisons) }}
    {%- endset -%}
    {{ return({'kind': 'in', 'sql': sql}) }}
{%- endmacro %}

{#-
    Current members of a group, by the group's type, id and traits
    ({trait: value} or {trait: {op: value}}, as in event_count).
-#}
{% macro in_group(group_type=none, group_id=none, traits=none) -%}
    {%- set sql -%}
        select members.profile_id
        from {{ ref('group_members') }} as members
        inner join {{ ref('groups') }} as groups using (group_type, group_id)
        where
            members.valid_from < {{ run_instant() }}
            and (members.valid_to is null or members.valid_to >= {{ run_instant() }})
            {%- if group_type is not none %}
            and members.group_type = {{ literal(group_type) }}
            {%- endif %}
            {%- if group_id is not none %}
            and members.group_id = {{ literal(group_id) }}
            {%- endif %}
            {%- for name, wanted in (traits or {}).items() %}
            and {{ compared(json_member('groups.traits', name), wanted) }}
            {%- endfor %}
    {%- endset -%}
    {{ return({'kind': 'in', 'sql': sql}) }}
{%- endmacro %}

{#- Profiles with any event in the window. -#}
{% macro active(within_days) -%}
    {%- set sql -%}
        select events.profile_id
        from {{ ref('profile_events') }} as events
        where
            events.timestamp < {{ run_instant() }}
            and events.timestamp >= {{ days_before(run_instant(), within_days) }}
    {%- endset -%}
    {{ return({'kind': 'in', 'sql': sql}) }}
{%- endmacro %}

{#- Profiles that have not denied a consent category. -#}
{% macro consented(category) -%}
    {%- set sql -%}
        select statements.profile_id
        from {{ ref('consent') }} as statements
        where statements.category = {{ literal(category) }} and not statements.granted
    {%- endset -%}
    {{ return(none_of([{'kind': 'in', 'sql': sql}])) }}
{%- endmacro %}

{#-
    Write into the audience's config.meta which events and traits it asks for: a run
    warns of names that nothing has. A key for each, because dbt merges keys, not lists.
-#}
{% macro note_name(kind, name) -%}
    {%- do config(meta={kind ~ ' ' ~ name: 'asked for'}) -%}
{%- endmacro %}


{% macro grouped(all_of, any_of, none_of) -%}
    {%- set parts = [] -%}
    {%- for kind, conditions in [('and', all_of), ('or', any_of), ('nor', none_of)] -%}
        {%- if conditions -%}
            {%- do parts.append({'kind': kind, 'conditions': conditions}) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if not parts -%}
        {{ exceptions.raise_compiler_error(
            "audience(): pass all_of, any_of or none_of with at least one condition."
        ) }}
    {%- endif -%}
    {{ return({'kind': 'and', 'conditions': parts}) }}
{%- endmacro %}

{% macro meets(condition) -%}
    {%- if condition.kind == 'in' -%}
        profiles.profile_id in (
        {{ condition.sql }}
        )
    {%- else -%}
        {%- set word = 'and' if condition.kind == 'and' else 'or' -%}
        {{ 'not ' if condition.kind == 'nor' }}(
        {%- for inner in condition.conditions -%}
            {{ '\n' ~ word ~ ' ' if not loop.first }}{{ meets(inner) }}
        {%- endfor -%}
        )
    {%- endif -%}
{%- endmacro %}

{#- Compares text with a value: as text for texts, as a number for numbers. -#}
{% macro compared(text, wanted) -%}
    {%- set tests = wanted if wanted is mapping else {'equals': wanted} -%}
    {%- for op, value in tests.items() -%}
        {{ ' and ' if not loop.first }}
        {%- if op == 'exists' -%}
            {{ text }} is {{ 'not ' if value }}null
        {%- elif op == 'contains' -%}
            contains({{ text }}, {{ literal(value) }})
        {%- elif op == 'one_of' -%}
            (
            {%- for one in value -%}
                {{ ' or ' if not loop.first }}{{ compared(text, {'equals': one}) }}
            {%- else -%}
                false
            {%- endfor -%}
            )
        {%- elif op in ('equals', 'not_equals', 'at_least', 'at_most', 'more_than',
            'less_than') -%}
            {%- set sign = {'equals': '=', 'not_equals': '<>', 'at_least': '>=',
                'at_most': '<=', 'more_than': '>', 'less_than': '<'}[op] -%}
            {%- if value is none -%}
                false
            {%- elif value is boolean -%}
                {{ text }} {{ sign }} '{{ value | string | lower }}'
            {%- elif value is number -%}
                try_cast({{ text }} as double) {{ sign }} {{ value }}
            {%- else -%}
                {{ text }} {{ sign }} {{ literal(value) }}
            {%- endif -%}
        {%- else -%}
            {{ exceptions.raise_compiler_error("'" ~ op ~ "' is not a comparison.") }}
        {%- endif -%}
    {%- endfor -%}
{%- endmacro %}
