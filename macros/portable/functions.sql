{#- The 128-bit hash of text, as 32 hex digits. -#}
{% macro hash_text(expression) -%}
    {{ return(adapter.dispatch('hash_text', 'loomline')(expression)) }}
{%- endmacro %}

{% macro default__hash_text(expression) -%}
    md5({{ expression }})
{%- endmacro %}

{#- The SHA-256 of text, as hex digits. -#}
{% macro sha256_text(expression) -%}
    {{ return(adapter.dispatch('sha256_text', 'loomline')(expression)) }}
{%- endmacro %}

{% macro default__sha256_text(expression) -%}
    sha256({{ expression }})
{%- endmacro %}

{#- A member of a JSON object, by name (not path), as text; null if missing. -#}
{% macro json_member(column, name) -%}
    {{ return(adapter.dispatch('json_member', 'loomline')(column, name)) }}
{%- endmacro %}

{% macro default__json_member(column, name) -%}
    {#- A pointer, not a path: names may contain dots, quotes and stars (RFC 6901). -#}
    json_extract_string(
        {{ column }}, {{ literal('/' ~ name | replace('~', '~0') | replace('/', '~1')) }}
    )
{%- endmacro %}

{#-
    One row per member of the JSON object in `column`: (…, name, value), value as text.
    Rows whose column is not an object give none.
-#}
{% macro json_members(relation, column, keep) -%}
    {{ return(adapter.dispatch('json_members', 'loomline')(relation, column, keep)) }}
{%- endmacro %}

{% macro default__json_members(relation, column, keep) -%}
    {#-
        One pass over each object. An extraction per member, and even more a lateral
        json_each, is quadratic in the number of members.
    -#}
    select
        {%- for name in keep %}
        {{ name }},
        {%- endfor %}
        unnest(json_keys({{ column }})) as name,
        unnest(json_extract_string({{ column }}, '$.*')) as value
    from {{ relation }}
    where json_type({{ column }}) = 'OBJECT'
{%- endmacro %}

{#- A JSON object of a group's (name, value) rows, sorted by name; values are JSON. -#}
{% macro json_object_agg(name, value) -%}
    {{ return(adapter.dispatch('json_object_agg', 'loomline')(name, value)) }}
{%- endmacro %}

{% macro default__json_object_agg(name, value) -%}
    '{' || string_agg(
        cast(to_json({{ name }}) as varchar) || ':' || cast({{ value }} as varchar),
        ',' order by {{ name }}
    ) || '}'
{%- endmacro %}

{#- Seconds since 1970 as an instant in UTC. -#}
{% macro epoch_timestamp(seconds) -%}
    {{ return(adapter.dispatch('epoch_timestamp', 'loomline')(seconds)) }}
{%- endmacro %}

{% macro default__epoch_timestamp(seconds) -%}
    make_timestamp(cast(round({{ seconds }} * 1000000) as bigint))
{%- endmacro %}

{#- A JSON value as text: strings without quotes, null for null. -#}
{% macro json_text(value) -%}
    {{ return(adapter.dispatch('json_text', 'loomline')(value)) }}
{%- endmacro %}

{% macro default__json_text(value) -%}
    json_extract_string({{ value }}, '$')
{%- endmacro %}

{#- An email address normalized for comparison: lower case, trimmed. -#}
{% macro email_text(expression) -%}
    {{ return(adapter.dispatch('email_text', 'loomline')(expression)) }}
{%- endmacro %}

{% macro default__email_text(expression) -%}
    lower(regexp_replace({{ expression }}, '^\s+|\s+$', '', 'g'))
{%- endmacro %}

{#-
    One row per value of the JSON list in `column`, in order: (…, value), value as JSON.
    Any other value is treated as a list of one.
-#}
{% macro json_values(relation, column, keep) -%}
    {{ return(adapter.dispatch('json_values', 'loomline')(relation, column, keep)) }}
{%- endmacro %}

{% macro default__json_values(relation, column, keep) -%}
    select
        {%- for name in keep %}
        {{ name }},
        {%- endfor %}
        cast(
            unnest(
                case
                    when json_type({{ column }}) = 'ARRAY'
                        then json_extract({{ column }}, '$[*]')
                    else [cast({{ column }} as json)]
                end
            ) as varchar
        ) as value
    from {{ relation }}
{%- endmacro %}

{#- The instant `days` before another. -#}
{% macro days_before(instant, days) -%}
    {{ return(adapter.dispatch('days_before', 'loomline')(instant, days)) }}
{%- endmacro %}

{% macro default__days_before(instant, days) -%}
    {{ instant }} - interval '{{ days }} days'
{%- endmacro %}

{#- The hours between two instants, with fractions. -#}
{% macro hours_between(start, end) -%}
    {{ return(adapter.dispatch('hours_between', 'loomline')(start, end)) }}
{%- endmacro %}

{% macro default__hours_between(start, end) -%}
    date_diff('second', {{ start }}, {{ end }}) / 3600.0
{%- endmacro %}

{#- Text or a number from a model file as an SQL literal, safely escaped. -#}
{% macro literal(value) -%}
    {%- if value is none -%}
        {{ return('null') }}
    {%- elif value is sameas true or value is sameas false -%}
        {{ return(value | string | lower) }}
    {%- elif value is number -%}
        {{ return(value | string) }}
    {%- endif -%}
    {{ return("'" ~ value | string | replace("'", "''") ~ "'") }}
{%- endmacro %}

{#- Text that may contain NUL, which would end a statement, as an SQL literal. -#}
{% macro text_literal(value) -%}
    {{ return(literal(value) | replace('\0', "' || chr(0) || '")) }}
{%- endmacro %}

{#-
    A variable of the environment that a run sets. The default while dbt reads the
    files: it reads a file again whenever a variable that it read there has changed.
-#}
{% macro run_variable(name, default) -%}
    {{ return(env_var(name, default) if execute else default) }}
{%- endmacro %}

{#-
    The as-of instant: LOOMLINE_NOW, else the run's start. Windows end before it.
-#}
{% macro run_instant() -%}
    {%- set as_of = run_variable('LOOMLINE_NOW', '') or run_started_at.isoformat() -%}
    {%- set moment = modules.datetime.datetime.fromisoformat(as_of | replace('Z', '+00:00')) -%}
    {%- if moment.tzinfo -%}
        {%- set moment = moment.astimezone(modules.pytz.utc) -%}
    {%- endif -%}
    {{ return("cast('" ~ moment.strftime('%Y-%m-%d %H:%M:%S.%f') ~ "' as timestamp)") }}
{%- endmacro %}

{#- A member of a JSON object that is itself an object, as JSON text. -#}
{% macro json_object_member(column, name) -%}
    {{ return(adapter.dispatch('json_object_member', 'loomline')(column, name)) }}
{%- endmacro %}

{% macro default__json_object_member(column, name) -%}
    cast(json_extract({{ column }}, {{ literal('/' ~ name) }}) as varchar)
{%- endmacro %}

{#-
    One row per member of the JSON object in `column`: (…, name, value, type), value as
    JSON, type OBJECT, ARRAY, VARCHAR, BIGINT, UBIGINT, DOUBLE, BOOLEAN or NULL. Rows
    whose column is not an object give none.
-#}
{% macro json_entries(relation, column, keep) -%}
    {{ return(adapter.dispatch('json_entries', 'loomline')(relation, column, keep)) }}
{%- endmacro %}

{% macro default__json_entries(relation, column, keep) -%}
    {#- As in json_members; a lateral json_each copies the object for every member. -#}
    select
        {%- for name in keep %}
        {{ name }},
        {%- endfor %}
        name,
        value,
        json_type(value) as type
    from (
        select
            {%- for name in keep %}
            {{ name }},
            {%- endfor %}
            unnest(json_keys({{ column }})) as name,
            unnest(json_extract({{ column }}, '$.*')) as value
        from {{ relation }}
        where json_type({{ column }}) = 'OBJECT'
    )
{%- endmacro %}

{#- A snake_case name; letters and digits of any script, no underscore at its ends. -#}
{% macro snake_case(expression) -%}
    {{ return(adapter.dispatch('snake_case', 'loomline')(expression)) }}
{%- endmacro %}

{% macro default__snake_case(expression) -%}
    trim(
        regexp_replace(
            lower(
                regexp_replace(
                    regexp_replace(
                        nfc_normalize({{ expression }}),
                        '([\p{Ll}\p{N}])(\p{Lu})', '\1_\2', 'g'
                    ),
                    '(\p{Lu})(\p{Lu}\p{Ll})', '\1_\2', 'g'
                )
            ),
            '[^\p{L}\p{M}\p{N}]+', '_', 'g'
        ),
        '_'
    )
{%- endmacro %}

{#- Whether text begins with a letter of any script. -#}
{% macro starts_with_letter(expression) -%}
    {{ return(adapter.dispatch('starts_with_letter', 'loomline')(expression)) }}
{%- endmacro %}

{% macro default__starts_with_letter(expression) -%}
    regexp_matches({{ expression }}, '^\p{L}')
{%- endmacro %}
