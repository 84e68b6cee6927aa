"""The health check of the image: exit 0 if the server answers `GET /stats` with 200."""

import http.client
import os
import sys

port = int(os.environ.get("PORT") or 8080)
# Where ALLOWED_HOSTS is set, the server answers no other host.
host = os.environ.get("ALLOWED_HOSTS", "").partition(",")[0].strip() or "localhost"
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=4)
try:
    connection.request("GET", "/stats", headers={"Host": host})
    status = connection.getresponse().status
except OSError as error:
    sys.exit(f"GET /stats on port {port}: {error}")
if status != 200:
    sys.exit(f"GET /stats on port {port}: {status}")
