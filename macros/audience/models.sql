{#-
    Names of the audience models, as whoever runs dbt found them in models/audiences.

    dbt wants a model's inputs known before it has read the other files, so the names
    come in by `--vars`; `loomline`, Dagster and SQLMesh hand them over.
-#}
{% macro audience_models() -%}
    {%- set given = var('audiences', []) -%}
    {%- if execute -%}
        {%- for node in graph.nodes.values()
            if node.resource_type == 'model' and node.name.startswith('aud_') -%}
            {%- if node.name not in given -%}
                {{ exceptions.raise_compiler_error(
                    "The audience " ~ node.name ~ " was not handed over. Run "
                    ~ "`loomline run`, or give dbt the output of `loomline dbt-vars` "
                    ~ "as --vars."
                ) }}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(given) }}
{%- endmacro %}

{#- Whether this run evaluates the audience: all of them, or those in LOOMLINE_ONLY. -#}
{% macro is_due(audience) -%}
    {%- set only = env_var('LOOMLINE_ONLY', '') -%}
    {{ return(not only or audience in only.split(',')) }}
{%- endmacro %}

{#-
    Who is sent where: [{audience, destination, identifiers, consent,
    resend_after_days}], from each audience's `sync_to` and the destinations' files.
-#}
{% macro syncs() -%}
    {%- set found = [] -%}
    {%- if execute -%}
        {%- set destinations = var('destinations', {}) -%}
        {%- for node in graph.nodes.values()
            if node.resource_type == 'model' and node.name.startswith('aud_') -%}
            {%- for name in node.config.get('meta', {}).get('sync_to', []) -%}
                {%- if name not in destinations -%}
                    {{ exceptions.raise_compiler_error(
                        node.name ~ " has sync_to: " ~ name ~ ", but there is no "
                        ~ "orchestration/defs/destinations/" ~ name ~ "/defs.yaml."
                    ) }}
                {%- endif -%}
                {%- set sync = {'audience': node.name, 'destination': name} -%}
                {%- do sync.update(destinations[name]) -%}
                {%- do found.append(sync) -%}
            {%- endfor -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(found) }}
{%- endmacro %}
