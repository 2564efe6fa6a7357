{{ config(alias='events') }}

{{ raw_stream('events') }}
