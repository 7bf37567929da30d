-- The load of one run, for wrk: each request takes the next token of a file. Arguments: the file with one token a line, the path, a field
-- whose value differs in each request ("" for none), after how many requests to stop (0: at wrk's own time), and "close" for a
-- connection per request. Ends with one line of JSON.

local requests, next_request, left, varied, path = {}, 0, 0, "", "/"

function init(args)
  path, varied = args[2], args[3]
  left = tonumber(args[4])
  for token in io.lines(args[1]) do
    local fields = { ["Host"] = "api.example", ["Accept"] = "application/json", ["User-Agent"] = "wrk" }
    if #token > 0 then fields["Authorization"] = "Bearer " .. token end
    if args[5] == "close" then fields["Connection"] = "close" end
    requests[#requests + 1] = wrk.format("GET", path, fields)
  end
end

function request()
  next_request = next_request + 1
  if next_request == left then wrk.thread:stop() end
  local bytes = requests[(next_request - 1) % #requests + 1]
  if #varied == 0 then return bytes end
  -- In front of the empty line.
  return bytes:sub(1, -3) .. varied .. ": " .. next_request .. "\r\n\r\n"
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"seconds":%.6f,"not_2xx":%d,"broken":%d,"p50_us":%.1f,"p99_us":%.1f}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
