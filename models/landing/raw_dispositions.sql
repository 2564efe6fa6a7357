{{ config(alias='dispositions') }}

{{ raw_stream('dispositions') }}
