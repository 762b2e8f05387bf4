-- wrk's requests: one path, method and body, and 4,096 ids in turn. Arguments: METHOD PATH BODY_BYTES CONNECTION
local requests, turn = {}, 0

function init(arguments)
   local method, path, bytes, connection = unpack(arguments)
   local body = tonumber(bytes) > 0 and string.rep("x", tonumber(bytes)) or nil
   for i = 1, 4096 do
      local headers = { ["X-Request-Id"] = tostring(100000 + (i * 7919) % 900000) }
      if connection == "close" then headers["Connection"] = "close" end
      requests[i] = wrk.format(method, path, headers, body)
   end
end

function request()
   turn = turn % 4096 + 1
   return requests[turn]
end

function done(summary)
   local e = summary.errors
   local errors = e.connect + e.read + e.write + e.status + e.timeout
   io.write(string.format("\nresult,%d,%d,%d\n", summary.requests, errors, summary.duration))
end
