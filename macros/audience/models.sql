{#-
    Names of the audience models in models/audiences, passed in with `--vars`.

    dbt resolves a model's inputs before it has read the other files, so it cannot list
    them itself; `loomline`, Dagster, SQLMesh and the project's `dbt` command pass them.
-#}
{% macro audience_models() -%}
    {%- set audiences = var('audiences', []) -%}
    {%- if execute -%}
        {%- for node in graph.nodes.values()
            if node.resource_type == 'model' and node.name.startswith('aud_') -%}
            {%- if node.name not in audiences -%}
                {{ exceptions.raise_compiler_error(
                    "The audience " ~ node.name ~ " was not passed to dbt. Run dbt "
                    ~ "with the command in the project's .venv/bin."
                ) }}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(audiences) }}
{%- endmacro %}

{#-
    The audiences this command evaluates: all, or those in LOOMLINE_ONLY, and only those
    it builds. Another audience's table may have ids from before a merge: its members
    would seem to leave, and to enter under their new ids.

    A test that is run without any audience covers all of them.
-#}
{% macro due_audiences(audiences) -%}
    {%- set only = run_variable('LOOMLINE_ONLY', '') -%}
    {%- set due = [] -%}
    {%- set built = [] -%}
    {%- for audience in audiences if not only or audience in only.split(',') -%}
        {%- do due.append(audience) -%}
        {#- SQLMesh's loader also runs this, without a selection. -#}
        {%- if 'model.loomline.' ~ audience in (selected_resources | default([])) -%}
            {%- do built.append(audience) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set is_building = selected_resources is defined
        and execute and flags.WHICH in ('build', 'run') -%}
    {{ return(built if is_building and (built or model.resource_type == 'model') else due) }}
{%- endmacro %}

{#-
    The syncs: [{audience, destination, identifiers, consent, resend_after_days}], from
    each audience's `sync_to` and the destinations' files.
-#}
{% macro syncs() -%}
    {%- set result = [] -%}
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
                {%- do result.append(sync) -%}
            {%- endfor -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(result) }}
{%- endmacro %}
