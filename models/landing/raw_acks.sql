{{ config(alias='acks') }}

{{ raw_stream('acks') }}
