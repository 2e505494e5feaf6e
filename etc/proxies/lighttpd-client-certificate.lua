-- For auth x509 behind lighttpd: forwards the client's certificate to econed, and replaces a header sent by the client.
-- /etc/lighttpd/econed-client-certificate.lua
local certificate = nil
if lighty.r.req_env["SSL_CLIENT_VERIFY"] == "SUCCESS" then
    certificate = string.gsub(lighty.r.req_env["SSL_CLIENT_CERT"], "%s+", " ")
end
lighty.r.req_header["SSL_CLIENT_CERT"] = certificate or ""
