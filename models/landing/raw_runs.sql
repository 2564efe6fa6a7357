{{ config(alias='runs') }}

{{ raw_stream('runs') }}
