-- The disposition of every item. Of admitted items with the same message key the first
-- received is accepted; the others are duplicates or conflicts.
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='message_key',
) }}
{%- set since = watermark() %}
{%- set until = newest_load() %}

with

admitted as (

    select
        -- ids
        {{ hash_text("scope || chr(31) || message_id") }} as message_key,
        message_id,
        source,
        channel,
        event,
        cast(null as varchar) as reason,
        content_hash,
        row_hash,

        -- times
        received_at,

        load_seq

    from ({{ raw_stream('events', since, until) }})

),

candidates as (

    select * from admitted
    {%- if is_incremental() %}

    union all by name

    select * exclude (disposition)
    from {{ this }}
    where message_key in (select message_key from admitted)
    {%- endif %}

),

ranked as (

    select
        *,
        row_number() over message as place,
        first_value(content_hash) over message as accepted_content_hash
    from candidates
    window message as (
        partition by message_key
        order by received_at, row_hash, source, channel, load_seq
    )

),

decided as (

    select
        * exclude (place, accepted_content_hash),
        case
            when place = 1 then 'accepted'
            when content_hash = accepted_content_hash then 'duplicate'
            else 'conflict'
        end as disposition
    from ranked

),

decided_at_the_door as (

    select
        message_id,
        source,
        channel,
        event,
        reason,
        received_at,
        load_seq,
        disposition
    from ({{ raw_stream('dispositions', since, until) }})
    where disposition <> 'admitted'

)

select * from decided
union all by name
select * from decided_at_the_door
