with

calls as (

    select * from {{ ref('int_group_calls') }}

),

stated as (

    select * from calls where json_type(group_traits) = 'OBJECT'

),

named as (

    {{ json_entries(
        'stated', 'group_traits',
        ['group_type', 'group_id', 'message_id', 'source', 'timestamp', 'received_at']
    ) }}

),

latest as (

    select group_type, group_id, name, value
    from named
    where name not in ('$group_type', '$group_id')
    qualify row_number() over (
        partition by group_type, group_id, name
        order by timestamp desc, received_at desc, message_id desc, source desc, value
    ) = 1

),

traits as (

    select
        group_type,
        group_id,
        {{ json_object_agg('name', 'value') }} as traits,
        min({{ json_text('value') }}) filter (where name = '$parent_type')
            as parent_type,
        min({{ json_text('value') }}) filter (where name = '$parent_id') as parent_id
    from latest
    group by group_type, group_id

),

known as (

    select distinct group_type, group_id from calls

)

select
    known.group_type,
    known.group_id,
    coalesce(traits.traits, '{}') as traits,
    traits.parent_type,
    traits.parent_id
from known
left join traits using (group_type, group_id)
