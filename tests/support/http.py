"""Plain HTTP requests for tests that are not asynchronous."""

import http.client

from tests.support.patience import PATIENCE


def get(port: int, path: str) -> tuple[int, bytes]:
    """Return the status and body of a GET on this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
