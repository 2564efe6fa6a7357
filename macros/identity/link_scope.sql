{#-
    The scope of an incremental run: the links that events after `since` may have
    added, changed or taken back. A query.

    Reads      events (message_key, load_seq), the current arrival of each message;
               identifiers (message_key, load_seq, kind, value), of all arrivals;
               types (kind, priority)
    Returns    left_type, left_value, right_type, right_value
    Invariant  A link that is not in it has the same evidence as in the last run. One
               that is in it need not exist.
-#}
{% macro link_scope(events, identifiers, types, since) -%}
    with changed_messages as (
        select message_key from {{ events }} where load_seq > {{ since }}
    ),
    newly_known as (
        -- what may have turned from a cookie into a user, or back
        select distinct value
        from {{ identifiers }}
        where kind = 'user_id' and message_key in (select message_key from changed_messages)
    ),
    touched_messages as (
        select message_key from changed_messages
        union
        select message_key
        from {{ identifiers }}
        where
            kind in ('distinct_id', 'previous_id')
            and value in (select value from newly_known)
    ),
    touched_identifiers as (
        -- of every arrival the messages ever had, in every reading
        select message_key, load_seq, kind, value, true as is_certain
        from {{ identifiers }}
        where
            message_key in (select message_key from touched_messages)
            and kind not in ('distinct_id', 'previous_id')
        union
        select message_key, load_seq, reading.kind, value, false as is_certain
        from {{ identifiers }} as ambiguous
        cross join (select unnest(['user_id', 'anonymous_id']) as kind) as reading
        where
            message_key in (select message_key from touched_messages)
            and ambiguous.kind in ('distinct_id', 'previous_id')
    ),
    touched_lefts as (
        -- the identifiers that others of the message can have been linked to: the first
        -- of the certain ones, and each uncertain one
        select touched_identifiers.*, types.priority
        from touched_identifiers
        inner join {{ types }} as types using (kind)
        qualify
            not is_certain
            or row_number() over (
                partition by message_key, load_seq, is_certain
                order by types.priority, kind, value
            ) = 1
    )
    select
        lefts.kind as left_type,
        lefts.value as left_value,
        rights.kind as right_type,
        rights.value as right_value
    from touched_lefts as lefts
    inner join touched_identifiers as rights using (message_key, load_seq)
    inner join {{ types }} as right_types on rights.kind = right_types.kind
    where
        (lefts.priority, lefts.kind, lefts.value)
        <= (right_types.priority, rights.kind, rights.value)
    union
    select kind, value, kind, value
    from touched_identifiers
    inner join {{ types }} using (kind)
{%- endmacro %}
