-- Which two identifiers events carried together, when first and how often; a row whose
-- two ends are equal is the identifier's own evidence.
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['left_type', 'left_value', 'right_type', 'right_value'],
) }}
{#- A link that no event shows any longer stays as a row with count_events = 0: whoever
    reads changes by load_seq has to see it go. -#}
{%- set since = watermark() %}

with

types as (

    select kind, priority from {{ ref('identifier_types') }}

),

latest as (

    select max(load_seq) as load_seq from {{ ref('int_events') }}

),

current_identifiers as (

    select identifiers.*
    from {{ ref('int_identifiers') }} as identifiers
    inner join {{ ref('int_events') }} using (message_key, load_seq)

),

{% if is_incremental() -%}
changed_messages as (

    select message_key from {{ ref('int_events') }} where load_seq > {{ since }}

),

newly_known as (

    -- what may have turned from a cookie into a user, or back
    select distinct value
    from {{ ref('int_identifiers') }}
    where kind = 'user_id' and message_key in (select message_key from changed_messages)

),

touched_messages as (

    select message_key from changed_messages
    union
    select message_key
    from {{ ref('int_identifiers') }}
    where
        kind in ('distinct_id', 'previous_id')
        and value in (select value from newly_known)

),

touched_identifiers as (

    -- of every arrival the messages ever had, in every reading
    select message_key, load_seq, kind, value, true as is_certain
    from {{ ref('int_identifiers') }}
    where
        message_key in (select message_key from touched_messages)
        and kind not in ('distinct_id', 'previous_id')
    union
    select message_key, load_seq, reading.kind, value, false as is_certain
    from {{ ref('int_identifiers') }} as identifiers
    cross join (select unnest(['user_id', 'anonymous_id']) as kind) as reading
    where
        message_key in (select message_key from touched_messages)
        and identifiers.kind in ('distinct_id', 'previous_id')

),

touched_lefts as (

    -- what others of the message can have been linked to: of the certain ones the first
    select
        touched_identifiers.*,
        types.priority
    from touched_identifiers
    inner join types using (kind)
    qualify
        not is_certain
        or row_number() over (
            partition by message_key, load_seq, is_certain
            order by types.priority, kind, value
        ) = 1

),

touched as (

    select
        lefts.kind as left_type,
        lefts.value as left_value,
        rights.kind as right_type,
        rights.value as right_value
    from touched_lefts as lefts
    inner join touched_identifiers as rights using (message_key, load_seq)
    inner join types as right_types on rights.kind = right_types.kind
    where
        (lefts.priority, lefts.kind, lefts.value)
        <= (right_types.priority, rights.kind, rights.value)
    union
    select kind, value, kind, value
    from touched_identifiers
    inner join types using (kind)

),

reread_messages as (

    select distinct message_key
    from {{ ref('int_identifiers') }}
    where value in (
        select left_value from touched union select right_value from touched
    )

),
{%- endif %}

reread as (

    select *
    from current_identifiers
    {%- if is_incremental() %}
    where message_key in (select message_key from reread_messages)
    {%- endif %}

),

known_users as (

    select distinct value
    from current_identifiers
    where
        kind = 'user_id'
        and value in (
            select value from reread where kind in ('distinct_id', 'previous_id')
        )

),

resolved as (

    select distinct
        reread.message_key,
        reread.message_id,
        reread.received_at,
        reread.value,
        case
            when reread.kind not in ('distinct_id', 'previous_id') then reread.kind
            when known_users.value is not null then 'user_id'
            else 'anonymous_id'
        end as kind
    from reread
    left join known_users using (value)

),

linked as (

    -- the identifier of the highest priority is linked to each of the others
    select
        first_value(kind) over message as left_type,
        first_value(value) over message as left_value,
        kind as right_type,
        value as right_value,
        message_id,
        received_at
    from resolved
    inner join types using (kind)
    window message as (partition by message_key order by priority, kind, value)

),

evidence as (

    select * from linked
    union all
    select right_type, right_value, right_type, right_value, message_id, received_at
    from linked
    where (left_type, left_value) <> (right_type, right_value)

),

dated as (

    select
        *,
        min(received_at) over (
            partition by left_type, left_value, right_type, right_value
        ) as first_received_at
    from evidence

),

links as (

    select
        left_type,
        left_value,
        right_type,
        right_value,
        first_received_at,
        min(message_id) filter (where received_at = first_received_at)
            as first_message_id,
        max(received_at) as last_received_at,
        count(*) as count_events
    from dated
    group by left_type, left_value, right_type, right_value, first_received_at

)

{% if is_incremental() -%}
select
    touched.*,
    links.first_received_at,
    links.first_message_id,
    links.last_received_at,
    coalesce(links.count_events, 0) as count_events,
    latest.load_seq
from touched
left join links using (left_type, left_value, right_type, right_value)
cross join latest
{%- else -%}
select links.*, latest.load_seq
from links
cross join latest
{%- endif %}
