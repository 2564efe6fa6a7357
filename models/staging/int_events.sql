-- Accepted events with their load; a later load may bring an earlier arrival of a known
-- message, which then replaces it. Missing JSON is '', not null: DuckDB reads the last
-- long text before a null again for each null, so that one context of 1 MB and 2,000
-- events without one took 2 GB whenever they were read.
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='message_key',
) }}

with

landed as (

    select
        * replace (
            coalesce(properties, '') as properties,
            coalesce(traits, '') as traits,
            coalesce(context, '') as context,
            coalesce(integrations, '') as integrations,
            coalesce(consent, '') as consent
        ),
        {{ hash_text("scope || chr(31) || message_id") }} as message_key
    from ({{ raw_stream('events', watermark()) }})

),

accepted as (

    select message_key, received_at, row_hash, load_seq
    from {{ ref('int_dispositions') }}
    where disposition = 'accepted'

),

first_received as (

    select landed.*
    from landed
    inner join accepted using (message_key, received_at, row_hash, load_seq)
    qualify row_number() over (partition by message_key order by source, channel) = 1

)

select * from first_received
