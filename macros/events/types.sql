{#-
    The kind of a JSON value, by the types that can hold it exactly.

    boolean; integer, and long if a double cannot count that far; double, and fine if it
    is too small or too large for decimal(38, 9); date; timestamp, an instant with its
    offset; text, for everything else; `objects`, for an object.
-#}
{% macro json_kind(type, value, objects) -%}
    {%- set text = "substr(" ~ value ~ ", 2, length(" ~ value ~ ") - 2)" -%}
    case
        when {{ type }} = 'OBJECT' then '{{ objects }}'
        when {{ type }} = 'BOOLEAN' then 'boolean'
        when {{ type }} in ('BIGINT', 'UBIGINT')
            then case
                when try_cast({{ value }} as bigint) is null then 'text'
                when try_cast({{ value }} as bigint)
                    between -9007199254740992 and 9007199254740992
                    then 'integer'
                else 'long'
            end
        when {{ type }} = 'DOUBLE'
            then case
                when try_cast({{ value }} as double) is null then 'text'
                when cast(try_cast({{ value }} as decimal(38, 9)) as double)
                    = try_cast({{ value }} as double)
                    then 'double'
                else 'fine'
            end
        when {{ type }} = 'VARCHAR'
            then case
                when {{ is_date(text) }} then 'date'
                when {{ is_instant(text) }} then 'timestamp'
                else 'text'
            end
        else 'text'
    end
{%- endmacro %}

{#- The narrowest column type that holds values of these kinds. -#}
{% macro column_type(kinds) -%}
    {%- set ladder = [
        ('BOOLEAN', ['boolean']),
        ('BIGINT', ['boolean', 'integer', 'long']),
        ('DOUBLE', ['boolean', 'integer', 'double', 'fine']),
        ('DECIMAL(38,9)', ['boolean', 'integer', 'long', 'double']),
        ('DATE', ['date']),
        ('TIMESTAMP', ['date', 'timestamp']),
    ] -%}
    case
        {%- for type, held in ladder %}
        when bool_and({{ kinds }} in ('{{ held | join("', '") }}')) then '{{ type }}'
        {%- endfor %}
        else 'VARCHAR'
    end
{%- endmacro %}

{#- A property's text, cast to its column's type. -#}
{% macro as_column(value, type) -%}
    {%- if type == 'VARCHAR' -%}
        {{ return(value) }}
    {%- elif type == 'TIMESTAMP' -%}
        {#- A date in a timestamp column is midnight UTC in any session's zone. -#}
        {{ return(instant(
            'cast',
            "case length(" ~ value ~ ") when 10 then " ~ value ~ " || 'T00:00:00Z' else "
            ~ value ~ " end"
        )) }}
    {%- elif type in ('BIGINT', 'DOUBLE', 'DECIMAL(38,9)') -%}
        {%- set value = (
            "case " ~ value ~ " when 'true' then '1' when 'false' then '0' else "
            ~ value ~ " end"
        ) -%}
    {%- endif -%}
    {{ return("cast(" ~ value ~ " as " ~ type ~ ")") }}
{%- endmacro %}

{#- Whether text is exactly a calendar date. -#}
{% macro is_date(text) -%}
    {{ return(adapter.dispatch('is_date', 'loomline')(text)) }}
{%- endmacro %}

{% macro default__is_date(text) -%}
    (
        regexp_full_match({{ text }}, '[0-9]{4}-[0-9]{2}-[0-9]{2}')
        and coalesce(try_cast({{ text }} as date) >= date '0001-01-01', false)
    )
{%- endmacro %}

{#- Whether text is an instant with an offset, at most to the microsecond. -#}
{% macro is_instant(text) -%}
    {{ return(adapter.dispatch('is_instant', 'loomline')(text)) }}
{%- endmacro %}

{% macro default__is_instant(text) -%}
    (
        regexp_full_match(
            {{ text }},
            '[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?'
            || '(Z|[+-][0-9]{2}:[0-9]{2})'
        )
        and coalesce(
            {{ instant('try_cast', text) }} >= timestamp '0001-01-01', false
        )
    )
{%- endmacro %}

{#- Text with an offset as an instant in UTC; `cast` is cast or try_cast. -#}
{% macro instant(cast, text) -%}
    {{ return(adapter.dispatch('instant', 'loomline')(cast, text)) }}
{%- endmacro %}

{% macro default__instant(cast, text) -%}
    {#- A cast to timestamp drops the offset; `at time zone` needs an extension. -#}
    make_timestamp(epoch_us({{ cast }}({{ text }} as timestamptz)))
{%- endmacro %}
