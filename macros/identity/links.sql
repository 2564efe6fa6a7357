{#-
    A query of the links that some events show.

    Reads      shown_by (message_key, load_seq), the events whose links are wanted;
               events (message_key, load_seq), all of them; identifiers (message_key,
               load_seq, message_id, received_at, identifier_type, value);
               types (identifier_type, priority)
    Returns    left_type, left_value, right_type, right_value, first_received_at,
               first_message_id, last_received_at, count_events
    Invariant  One row per link; a row whose two ends are equal is the identifier's own
               evidence. distinct_id and previous_id count as user_id if any event
               carries the value as one, whether it is in shown_by or not.
-#}
{% macro links_of(shown_by, events, identifiers, types) -%}
    with shown as (
        select arrived.*
        from {{ identifiers }} as arrived
        inner join {{ shown_by }} using (message_key, load_seq)
    ),
    known_users as (
        select distinct arrived.value
        from {{ identifiers }} as arrived
        inner join {{ events }} using (message_key, load_seq)
        where
            arrived.identifier_type = 'user_id'
            and arrived.value in (
                select value from shown where identifier_type in ('distinct_id', 'previous_id')
            )
    ),
    resolved as (
        select distinct
            shown.message_key,
            shown.message_id,
            shown.received_at,
            shown.value,
            case
                when shown.identifier_type not in ('distinct_id', 'previous_id')
                then shown.identifier_type
                when known_users.value is not null then 'user_id'
                else 'anonymous_id'
            end as identifier_type
        from shown
        left join known_users using (value)
    ),
    linked as (
        -- link the identifier of the highest priority to each of the others
        select
            first_value(identifier_type) over message as left_type,
            first_value(value) over message as left_value,
            identifier_type as right_type,
            value as right_value,
            message_id,
            received_at
        from resolved
        inner join {{ types }} using (identifier_type)
        window message as (partition by message_key order by priority, identifier_type, value)
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
    )
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
{%- endmacro %}
