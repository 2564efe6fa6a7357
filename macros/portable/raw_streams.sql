{#-
    A raw stream as a relation: the files the manifest lists, never a glob.

    `load_seq` is the load of a row; compacted files have it as a column, others get it
    from the manifest. With `since`, only later loads are opened. Loads after `until`
    are left for the next run: streams grow while models are built, and must end at the
    same load for all models.
-#}
{% macro raw_stream(stream, since=none, until=none) -%}
    {%- set until = newest_load() if until is none else until -%}
    {{ return(adapter.dispatch('raw_stream', 'loomline')(stream, since, until)) }}
{%- endmacro %}

{% macro default__raw_stream(stream, since, until) -%}
    {%- set raw = home() ~ '/raw/' -%}
    {%- set files = manifest_files(stream, since) -%}
    select
        stream.* exclude (filename, load_seq),
        coalesce(stream.load_seq, loads.load_seq) as load_seq
    from read_parquet(
        [
            {{ literal(raw ~ 'schema/' ~ stream ~ '.parquet') }}
            {%- for file in files %},
            {{ literal(raw ~ file.path) }}
            {%- endfor %}
        ],
        filename = true,
        union_by_name = true
    ) as stream
    left join (
        {% for file in files -%}
        select {{ literal(raw ~ file.path) }} as path, {{ file.load_seq }} as load_seq
        union all
        {% endfor -%}
        select '' as path, 0 as load_seq
    ) as loads
        on stream.filename = loads.path
    where
        coalesce(stream.load_seq, loads.load_seq) <= {{ until }}
        {%- if since is not none %}
        and coalesce(stream.load_seq, loads.load_seq) > {{ since }}
        {%- endif %}
{%- endmacro %}

{#- The manifest itself, one row per file. -#}
{% macro manifest() -%}
    {{ return(adapter.dispatch('manifest', 'loomline')()) }}
{%- endmacro %}

{% macro default__manifest() -%}
    read_json(
        {{ literal(home() ~ '/raw/loads.ndjson') }},
        format = 'newline_delimited',
        columns = {
            load_seq: 'bigint', stream: 'varchar', path: 'varchar', rows: 'bigint',
            sha256: 'varchar', names: 'varchar[]', landed_at: 'double', tier: 'varchar'
        }
    )
{%- endmacro %}

{% macro manifest_files(stream, since) %}
    {%- set files = [] -%}
    {%- if execute -%}
        {%- set result = run_query(
            "select path, load_seq from " ~ manifest() ~ " where stream = '" ~ stream ~ "'"
            ~ (" and load_seq > " ~ since if since is not none else "")
            ~ " order by load_seq, path"
        ) -%}
        {%- for row in result.rows -%}
            {%- do files.append({"path": row[0], "load_seq": row[1] | int}) -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(files) }}
{% endmacro %}

{#- The last load of this run: LOOMLINE_LOADED, else the newest one. -#}
{% macro newest_load() -%}
    {%- set newest = run_variable('LOOMLINE_LOADED', '') -%}
    {%- if newest -%}
        {{ return(newest | int) }}
    {%- elif execute -%}
        {%- set result = run_query("select coalesce(max(load_seq), 0) from " ~ manifest()) -%}
        {{ return(result.rows[0][0] | int) }}
    {%- endif -%}
    {{ return(0) }}
{%- endmacro %}

{#- The home folder, which the command line makes absolute. -#}
{% macro home() -%}
    {{ return(run_variable('LOOMLINE_HOME', 'data')) }}
{%- endmacro %}

{#- The last load this incremental model has seen; -1 for a full build. -#}
{% macro watermark() -%}
    {%- if execute and is_incremental() -%}
        {%- set result = run_query("select coalesce(max(load_seq), -1) from " ~ this) -%}
        {{ return(result.rows[0][0] | int) }}
    {%- endif -%}
    {{ return(-1) }}
{%- endmacro %}
