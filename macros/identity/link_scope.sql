{#-
    The scope of an incremental run: a query of the links that events after `since` may
    have added, changed or withdrawn.

    Reads      events (message_key, load_seq), the current arrival of each message;
               identifiers (message_key, load_seq, identifier_type, value), of all arrivals;
               types (identifier_type, priority)
    Returns    left_type, left_value, right_type, right_value
    Invariant  A link outside it has the same evidence as in the last run. A link in it
               need not exist.
-#}
{% macro link_scope(events, identifiers, types, since) -%}
    with changed_messages as (
        select message_key from {{ events }} where load_seq > {{ since }}
    ),
    newly_known as (
        -- values that may have turned from a cookie into a user id, or back
        select distinct value
        from {{ identifiers }}
        where identifier_type = 'user_id'
            and message_key in (select message_key from changed_messages)
    ),
    touched_messages as (
        select message_key from changed_messages
        union
        select message_key
        from {{ identifiers }}
        where
            identifier_type in ('distinct_id', 'previous_id')
            and value in (select value from newly_known)
    ),
    touched_identifiers as (
        -- in every arrival the messages ever had, in every reading
        select message_key, load_seq, identifier_type, value, true as is_certain
        from {{ identifiers }}
        where
            message_key in (select message_key from touched_messages)
            and identifier_type not in ('distinct_id', 'previous_id')
        union
        select message_key, load_seq, reading.identifier_type, value, false as is_certain
        from {{ identifiers }} as ambiguous
        cross join (
            select unnest(['user_id', 'anonymous_id']) as identifier_type
        ) as reading
        where
            message_key in (select message_key from touched_messages)
            and ambiguous.identifier_type in ('distinct_id', 'previous_id')
    ),
    touched_lefts as (
        -- the identifiers that others of the message can have been linked to: the first
        -- of the certain ones, and each uncertain one
        select touched_identifiers.*, types.priority
        from touched_identifiers
        inner join {{ types }} as types using (identifier_type)
        qualify
            not is_certain
            or row_number() over (
                partition by message_key, load_seq, is_certain
                order by types.priority, identifier_type, value
            ) = 1
    )
    select
        lefts.identifier_type as left_type,
        lefts.value as left_value,
        rights.identifier_type as right_type,
        rights.value as right_value
    from touched_lefts as lefts
    inner join touched_identifiers as rights using (message_key, load_seq)
    inner join {{ types }} as right_types
        on rights.identifier_type = right_types.identifier_type
    where
        (lefts.priority, lefts.identifier_type, lefts.value)
        <= (right_types.priority, rights.identifier_type, rights.value)
    union
    select identifier_type, value, identifier_type, value
    from touched_identifiers
    inner join {{ types }} using (identifier_type)
{%- endmacro %}
