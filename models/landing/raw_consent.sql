{{ config(alias='consent') }}

{{ raw_stream('consent') }}
