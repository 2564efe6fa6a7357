{#-
    The standard columns of every event table, in order, with their types. A property
    never takes the name of one. An event's other fields are in staging.events.
-#}
{% macro standard_columns() -%}
    {{ return({
        'message_id': 'VARCHAR',
        'scope': 'VARCHAR',
        'event': 'VARCHAR',
        'event_text': 'VARCHAR',
        'user_id': 'VARCHAR',
        'anonymous_id': 'VARCHAR',
        'distinct_id': 'VARCHAR',
        'timestamp': 'TIMESTAMP',
        'original_timestamp': 'TIMESTAMP',
        'sent_at': 'TIMESTAMP',
        'received_at': 'TIMESTAMP',
        'source': 'VARCHAR',
    }) }}
{%- endmacro %}

{#-
    Words that DuckDB, Snowflake, BigQuery or PostgreSQL do not accept as a column name
    without quotes. One list for all engines, so that names stay the same on another
    engine.
-#}
{% macro reserved_words() -%}
    {{ return((
        'all alter analyse analyze and anti any array as asc asof'
        ~ ' assert_rows_modified asymmetric at authorization between binary both'
        ~ ' by case cast check collate collation column concurrently connect'
        ~ ' constraint contains create cross cube current current_catalog'
        ~ ' current_date current_role current_schema current_time'
        ~ ' current_timestamp current_user default deferrable delete desc describe'
        ~ ' distinct do drop else end enum escape except exclude exists extract'
        ~ ' false fetch following for foreign freeze from full generated glob'
        ~ ' grant group grouping grouping_id groups gscluster hash having if'
        ~ ' ignore ilike in increment initially inner insert intersect interval'
        ~ ' into is isnull issue join lambda lateral leading left like limit'
        ~ ' localtime localtimestamp lookup merge minus natural new no not notnull'
        ~ ' null nulls of off offset on only or order outer over overlaps'
        ~ ' partition pivot pivot_longer pivot_wider placing positional preceding'
        ~ ' primary proto qualify range recursive references regexp respect'
        ~ ' returning revoke right rlike rollup row rows sample select semi'
        ~ ' session_user set show similar some start struct summarize symmetric'
        ~ ' system_user table tablesample then to trailing treat trigger true'
        ~ ' try_cast unbounded union unique unnest unpack unpivot update user'
        ~ ' using values variadic verbose when whenever where window with within'
    ).split(' ')) }}
{%- endmacro %}

{#-
    A query of `relation` with an extra column `named`: a name made from `text`, unique
    among rows with the same `within`.

    Of several rows with one base, the first received (`since`, then `key`) gets the
    plain name. The others, and names that are cut or have no letter, end in a hash of
    `key` and an underscore, which no base does. A base that is `taken` (a condition on
    base) or does not begin with a letter gets a leading underscore, which no base has
    either. So a name depends only on the rows received, not on when they were read, and
    a sender cannot choose a name that another property already has.
-#}
{% macro with_names(relation, within, text, key, since, taken, otherwise) -%}
    {%- set longest = 50 -%}
    {%- set cut = "rtrim(left(base, " ~ longest ~ "), '_')" -%}
    select
        * exclude (base, place, short_hash, count_short),
        case
            when {{ taken }} or not {{ starts_with_letter('base') }} then '_' else ''
        end
        || coalesce(nullif({{ cut }}, ''), '{{ otherwise }}')
        || case
            when place = 1 and length(base) between 1 and {{ longest }} then ''
            when count_short = 1 then '_' || short_hash || '_'
            else '_' || {{ sha256_text(key) }} || '_'
        end as named
    from (
        select
            *,
            row_number() over (
                partition by {{ (within + ['base']) | join(', ') }}
                order by {{ since }}, {{ key }}
            ) as place,
            count(*) over (
                partition by {{ (within + [cut, 'short_hash']) | join(', ') }}
            ) as count_short
        from (
            select
                *,
                {{ snake_case(text) }} as base,
                left({{ sha256_text(key) }}, 8) as short_hash
            from {{ relation }}
        )
    )
{%- endmacro %}
