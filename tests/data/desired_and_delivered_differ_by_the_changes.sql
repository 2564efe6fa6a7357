-- An identifier that should be at a destination and neither is there nor on its way, or
-- that is there, should not be, and is not about to be removed.
{{ config(meta={'dagster': {'ref': {'name': 'int_sync_changes'}}}) }}

with

desired as (

    select destination, audience, identifier_hash
    from {{ ref('int_sync_identifiers') }}

),

delivered as (

    select destination, audience, identifier_hash from {{ ref('int_delivered') }}

),

changes as (

    select
        destination,
        audience,
        identifier_operation,
        {{ sha256_text("identifier_type || ':' || identifier_sent") }} as identifier_hash
    from {{ ref('int_sync_changes') }}

),

expected as (

    select * from delivered
    except
    select destination, audience, identifier_hash
    from changes
    where identifier_operation = 'remove'

),

after_push as (

    select * from expected
    union
    select destination, audience, identifier_hash
    from changes
    where identifier_operation = 'add'

)

(
    select * from desired
    except
    select * from after_push
)
union all
(
    select * from after_push
    except
    select * from desired
)
