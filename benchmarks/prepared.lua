-- Sends prepared requests in turn and prints the results as JSON. Its argument is a file of requests, each after a
-- line with its length in bytes.
local requests, position = {}, 0

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  while true do
    local length = file:read("*n")
    if length == nil then break end
    file:read(1)
    requests[#requests + 1] = file:read(length)
  end
  file:close()
end

function request()
  position = position % #requests + 1
  return requests[position]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "microseconds": %d, "refused": %d, "broken": %d, "percentiles": {',
    summary.requests, summary.duration, errors.status, errors.connect + errors.read + errors.write + errors.timeout))
  for index, percent in ipairs({1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9}) do
    io.write(string.format('%s"%g": %d', index > 1 and ", " or "", percent, latency:percentile(percent)))
  end
  io.write(string.format(', "100": %d}}\n', latency.max))
end
