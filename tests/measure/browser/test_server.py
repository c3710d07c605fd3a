"""The server answers what stands in its table, to whoever knows the token, and nothing else."""

import http.client
import socket
import ssl
from http import HTTPStatus
from urllib.parse import urlsplit

import pytest

from kd2mobile.errors import DeviceError, RecipeError
from kd2mobile.measure.browser.server import HEADERS, Refusal, Reply, Route, serve


def echo(query, body):
    if body == b"no":
        raise Refusal(HTTPStatus.BAD_REQUEST, "It must be a yes.")
    return Reply("text/plain", body + repr(sorted(query.items())).encode())


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    """A file that is not served, in a folder where one is."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "page.html").write_text("the page")
    (folder / "secret.txt").write_text("the secret")
    (folder / "link.txt").symlink_to(folder / "secret.txt")
    return folder / "secret.txt"


@pytest.fixture(scope="module")
def url(secret):
    page = secret.with_name("page.html")
    routes = {
        ("GET", ""): Route(lambda query, body: Reply("text/html", page)),
        ("GET", "sub/page.html"): Route(lambda query, body: Reply("text/html", page, lasting=True)),
        ("POST", "echo"): Route(echo, 10),
    }
    with serve(routes, policy="default-src 'none'") as address:
        yield address


def request(url, path, method="GET", body=None, headers=()):
    """Status, headers and text of a request whose path is sent as it stands."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port)
    connection.putrequest(method, path, skip_host=True)
    for name, value in {"Host": parts.netloc, **dict(headers)}.items():
        connection.putheader(name, value)
    if body is not None and "Transfer-Encoding" not in dict(headers):
        connection.putheader("Content-Length", dict(headers).get("X-Length", str(len(body))))
    connection.endheaders(body)
    answer = connection.getresponse()
    response = answer.status, answer.headers, answer.read().decode()
    connection.close()
    return response


def test_it_listens_on_this_machine_alone_behind_a_token(url):
    parts = urlsplit(url)
    assert parts.hostname == "127.0.0.1" and parts.scheme == "http"
    token = parts.path.strip("/")
    assert len(token) == 22, "128 bits in base64"
    status, headers, text = request(url, parts.path)
    assert (status, text) == (200, "the page")
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["Content-Security-Policy"] == "default-src 'none'" and HEADERS.items() <= dict(headers).items()
    assert headers["Cache-Control"] == "no-store"
    status, headers, _ = request(url, f"{parts.path}sub/page.html?x=1")
    assert status == 200 and headers["Cache-Control"] == "max-age=86400, immutable"


@pytest.mark.parametrize(
    "change", [str.upper, str.lower, lambda t: t[:-1], lambda t: f"{t}x", lambda t: "", lambda t: "%C3%A9"]
)
def test_another_token_or_none_is_refused(url, change):
    path = urlsplit(url).path.strip("/")
    guess = change(path)
    assert guess != path
    for resource in ("", "sub/page.html", "echo"):
        status, _, text = request(url, f"/{guess}/{resource}")
        assert status == 403 and "needs its token" in text and "the page" not in text
    status, headers, _ = request(url, f"/{guess}")
    assert status == 403 and "Location" not in headers
    assert request(url, "/", "POST", b"x")[0] == 403


def test_without_its_last_slash_the_url_leads_to_the_page(url):
    path = urlsplit(url).path
    for target in (path[:-1], f"{path[:-1]}?x=1"):
        status, headers, text = request(url, target)
        assert (status, headers["Location"], text) == (308, path, "") and headers["Cache-Control"] == "no-store"
    assert request(url, path[:-1], "POST", b"")[0] == 404, "nothing is posted there"
    assert request(url, path[:-1], "GET", b"x")[0] == 413


@pytest.mark.parametrize(
    "path",
    [
        "secret.txt",
        "link.txt",
        "../secret.txt",
        "sub/../secret.txt",
        "sub/../sub/page.html",
        "./",
        "%2e%2e/secret.txt",
        "..%2fsecret.txt",
        "sub%2fpage.html",
        "..\\secret.txt",
        "/etc/passwd",
        "//etc/passwd",
        "../../../../../../etc/passwd",
        "sub/page.html/",
        "sub/page.html%00",
        "SUB/page.html",
        "{secret}",
        "file://{secret}",
    ],
)
def test_nothing_else_is_reached(url, secret, path):
    status, _, text = request(url, urlsplit(url).path + path.format(secret=secret))
    assert status == 404 and text == "There is nothing at this address.\n"


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_refused(url, method):
    assert request(url, urlsplit(url).path, method)[0] == 501
    assert request(url, urlsplit(url).path + "echo")[0] == 404, "GET where there is a POST alone"


def test_a_body_is_taken_whole_and_within_its_limit(url):
    path = urlsplit(url).path + "echo"
    assert request(url, f"{path}?a=1&b=%20", "POST", b"hello")[2] == "hello[('a', '1'), ('b', ' ')]"
    status, _, text = request(url, path, "POST", b"x" * 11)
    assert status == 413 and text == "A request body must be at most 10 bytes here, got 11.\n"
    assert request(url, path, "POST", b"x", {"X-Length": "1" + "0" * 30})[0] == 413, "refused before it is read"
    for length in ("-1", "1e3", "²", ""):
        assert request(url, path, "POST", b"x", {"X-Length": length.encode().decode("latin-1")})[0] == 411
    assert request(url, path, "POST", b"1\r\nx\r\n0\r\n\r\n", {"Transfer-Encoding": "chunked"})[0] == 411
    assert request(url, urlsplit(url).path, "GET", b"x")[0] == 413, "a page takes no body"
    status, _, text = request(url, path, "POST", b"no")
    assert (status, text) == (400, "It must be a yes.\n")


def raw(url, request):
    """What is answered to these bytes, after which nothing comes."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port)) as plain:
        plain.sendall(request)
        plain.shutdown(socket.SHUT_WR)
        return plain.makefile("rb").read().decode()


def test_bytes_that_are_no_text_are_no_token(url):
    assert raw(url, b"GET /\xc3\xa9\xff/ HTTP/1.1\r\n\r\n").startswith("HTTP/1.1 403")


def test_a_body_that_is_cut_short_is_refused(url):
    response = raw(url, f"POST {urlsplit(url).path}echo HTTP/1.1\r\nContent-Length: 9\r\n\r\nhel".encode())
    assert response.startswith("HTTP/1.1 400") and "must be complete, got 3 of 9 bytes" in response


def test_a_port_in_use_is_an_error(url):
    port = urlsplit(url).port
    with pytest.raises(DeviceError) as refused, serve({}, port=port):
        pass
    assert str(refused.value).startswith(f"--port {port}: must be a free port, got ")
    assert str(refused.value).endswith("Give another --port, or leave it out for any free one.")


def test_on_the_network_it_listens_everywhere_and_shows_an_address_of_this_host():
    with serve({("GET", ""): Route(lambda query, body: Reply("text/plain", b"hello"))}, lan=True) as url:
        assert request(f"http://127.0.0.1:{urlsplit(url).port}", urlsplit(url).path)[2] == "hello"
        assert request(f"http://127.0.0.1:{urlsplit(url).port}", "/")[0] == 403
        assert urlsplit(url).hostname not in ("0.0.0.0", "")


def test_with_a_certificate_it_is_https(certificate):
    with serve({("GET", ""): Route(lambda query, body: Reply("text/plain", b"hello"))}, tls=certificate) as url:
        parts = urlsplit(url)
        assert parts.scheme == "https"
        with socket.create_connection((parts.hostname, parts.port)) as silent:
            trusted = ssl.create_default_context(cafile=certificate[0])
            connection = http.client.HTTPSConnection(parts.hostname, parts.port, context=trusted)
            connection.request("GET", parts.path)
            assert connection.getresponse().read() == b"hello", "one that says nothing keeps nobody waiting"
            connection.close()
            silent.close()


@pytest.mark.parametrize("swap", ["missing", "no PEM", "no pair"])
def test_a_certificate_that_is_none_is_an_error(swap, certificate, tmp_path):
    (tmp_path / "text.pem").write_text("hello")
    files = {
        "missing": (tmp_path / "none.pem", certificate[1]),
        "no PEM": (tmp_path / "text.pem", certificate[1]),
        "no pair": (certificate[0], certificate[0]),
    }[swap]
    must = r"^--tls: must be a certificate and its key, got .*PEM files"
    with pytest.raises(RecipeError, match=must) as refused, serve({}, tls=files):
        pass
    assert str(files[0]) in str(refused.value)
