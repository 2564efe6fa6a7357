-- The append-only log of who entered and left which audience, at which run.
{#- Audience names come from `--vars`, so that adding an audience is adding one file and
    this model still waits for all of them. -#}
{%- set audiences = audience_models() %}
{%- set due = due_audiences(audiences) %}
-- depends_on: {{ ref('profile_aliases') }}
{%- for audience in audiences %}
-- depends_on: {{ ref(audience) }}
{%- endfor %}
{{ config(
    materialized='incremental', incremental_strategy='append', full_refresh=false,
) }}

with

members as (

    {% for audience in due -%}
    select '{{ audience }}' as audience, profile_id from {{ ref(audience) }}
    union all
    {% endfor -%}
    select cast(null as varchar) as audience, cast(null as varchar) as profile_id
    where false

),

{% if is_incremental() -%}
open_entries as (

    select audience, profile_id as stored_id
    from {{ this }}
    qualify row_number() over (
        partition by audience, profile_id order by run_number desc
    ) = 1
    and change = 'enter'

),

previous as (

    -- resolve profile ids to today's
    select
        entries.audience,
        entries.stored_id,
        coalesce(aliases.profile_id, entries.stored_id) as profile_id
    from open_entries as entries
    left join {{ ref('profile_aliases') }} as aliases
        on entries.stored_id = aliases.old_profile_id

),

changes as (

    select audience, profile_id, 'enter' as change
    from members
    where (audience, profile_id) not in (select audience, profile_id from previous)
    union all
    select audience, stored_id, 'leave'
    from previous
    where
        (audience, profile_id) not in (select audience, profile_id from members)
        {%- if due | length < audiences | length %}
        and audience in (
            {%- for audience in due %}
            '{{ audience }}',{% endfor %} ''
        )
        {%- endif %}

)
{%- else -%}
changes as (

    select audience, profile_id, 'enter' as change from members

)
{%- endif %}

-- two runs may share an as-of instant: the run number orders them
select
    audience,
    profile_id,
    change,
    {{ run_instant() }} as changed_at,
    {% if is_incremental() -%}
    (select coalesce(max(run_number), 0) + 1 from {{ this }}) as run_number
    {%- else -%}
    1 as run_number
    {%- endif %}
from changes
