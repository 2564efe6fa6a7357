-- wrk script: sends the bodies of a file in turn, one per line; prints figures as JSON.
-- wrk -s collector_load.lua … URL -- FILE AUTHORIZATION

local bodies = {}
local at = 0

function init(args)
  for line in io.lines(args[1]) do
    bodies[#bodies + 1] = wrk.format("POST", nil, {
      ["Authorization"] = args[2],
      ["Content-Type"] = "application/json",
      ["User-Agent"] = "analytics-node/3.1.0",
    }, line)
  end
end

function request()
  at = at % #bodies + 1
  return bodies[at]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "wall_s": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "failed": %d}\n',
    summary.requests,
    summary.duration / 1e6,
    latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout
  ))
end
