-- Sends requests with a new token each, and with the headers of a browser. Builds them once, at the start.
-- Arguments: file of tokens, path before a token, path after it, number of the first token,
-- value of Connection, ms that a connection pauses on average before each request (0: none),
-- "forwarded" for another head each time, as a reverse proxy sends; otherwise 50 heads, of 50 user agents.

local requests, at = {}, 0

local function head(agent, connection)
  return " HTTP/1.1\r\n" ..
    "Host: pixel.test\r\n" ..
    "User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:" .. 100 + agent .. ".0) " ..
    "Gecko/20100101 Firefox/" .. 100 + agent .. ".0\r\n" ..
    "Accept: image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5\r\n" ..
    "Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\n" ..
    "Accept-Encoding: gzip, deflate, br, zstd\r\n" ..
    "Referer: https://mail.example.org/\r\n" ..
    "Connection: " .. connection .. "\r\n" ..
    "Sec-Fetch-Dest: image\r\n" ..
    "Sec-Fetch-Site: cross-site\r\n"
end

function init(args)
  local file, before, after, first, connection, pause, heads = unpack(args)
  for token in io.lines(file) do
    local i = #requests
    local forwarded = ""
    if heads == "forwarded" then
      forwarded = string.format("X-Forwarded-For: 10.%d.%d.%d\r\n", i / 65536, i / 256 % 256, i % 256)
    end
    requests[i + 1] = "GET " .. before .. token .. after .. head(i % 50, connection) .. forwarded .. "\r\n"
  end
  at = tonumber(first) % #requests
  collectgarbage()

  local most = 2 * tonumber(pause)
  if most > 0 then
    math.randomseed(tonumber(first))
    function delay() return math.floor(math.random() * most + 0.5) end
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    'RESULT {"requests":%d,"seconds":%f,"p50":%f,"p99":%f,"bad":%d,"errors":%d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
