{{ config(materialized='view') }}

with

changes as (

    select * from {{ side_table(ref('int_nodes'), 'changes') }}

)

select
    changed_at as merged_at,
    from_profile_id,
    into_profile_id,
    rule,
    message_id,
    (
        select min(splits.changed_at)
        from changes as splits
        where
            splits.change = 'split'
            and splits.into_profile_id = changes.from_profile_id
            and splits.load_seq > changes.load_seq
    ) as undone_at
from changes
where change = 'merge'
