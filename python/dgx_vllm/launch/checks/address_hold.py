"""The hold: an address is one server's from the check until that server has ended.

vLLM binds its port and listens only once the engine is loaded, minutes later, and Linux lets a second program
bind it meanwhile. So launchers hold the address by sockets of the abstract namespace, which is the network
namespace's as ports are, seen by every user and every container that shares it, and gone with its process.
"""

import contextlib
import errno
import fcntl
import ipaddress
import os
import socket
import stat
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from dgx_vllm.util.errors import FAILURE, UserError

_SOCKETS = Path("/proc/net/unix")
_LONGEST_PATH = 107  # of a Unix socket: sockaddr_un without its final zero
# A check takes milliseconds; a launcher that was stopped in the middle of one holds up nobody for long.
_CHECK_SECONDS = 0.5
_PAUSE_SECONDS = 0.01
_ASKERS = 1024

# sock_diag(7), linux/inet_diag.h. The state is there from Linux 6.8 on; an older kernel lists nothing for it.
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_BOUND_INACTIVE = 1 << 13
_HEADER = struct.Struct("=IHHII")
_DONE, _ERROR = 3, 2


class Hold:
    """What keeps an address for this process, as long as it lives or until `release`."""

    def __init__(self, *, lock: socket.socket | int | None = None, path: Path | None = None) -> None:
        self._lock = lock
        self._path = path

    def release(self) -> None:
        """Gives the address back; of a Unix socket, removes what the server has left of it."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        if isinstance(lock, socket.socket):
            lock.close()
            return
        assert self._path is not None
        for left in (self._path, _lock_file(self._path)):
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)
        os.close(lock)

    def __enter__(self) -> "Hold":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


# --- a port


def port(address: str, number: int) -> Hold:
    """Holds a port, which `holder` has been asked about within the same `checking`.

    Args:
        address: of this machine, in numbers.
        number: the port.
    """
    lock = _abstract(_name(address, number))
    if lock is not None:
        # Who asks for its process connects to it, and nobody takes the connection.
        lock.listen(_ASKERS)
    return Hold(lock=lock)


@contextlib.contextmanager
def checking(number: int) -> Iterator[None]:
    """Lets one launcher at a time check and hold a port."""
    end = time.monotonic() + _CHECK_SECONDS
    while (turn := _abstract(f"dgx-vllm.check.{number}")) is None and time.monotonic() < end:
        time.sleep(_PAUSE_SECONDS)
    try:
        yield
    finally:
        if turn is not None:
            turn.close()


def holder(address: str, number: int) -> str | None:
    """Who has a port without listening on it yet, None where nobody has it.

    Args:
        address: of this machine, in numbers; every address of it conflicts with 0.0.0.0 and with ::.
        number: the port.
    """
    for name, listening in _listening_sockets(number):
        if _conflict(address, listening):
            pid = _owner(name)
            return "another dgx-vllm" + (f" (process {pid})" if pid else "")
    if any(_conflict(address, bound) for bound in _bound(number)):
        return "a program that does not listen on it yet, such as a server that is loading"
    return None


def _name(address: str, number: int) -> str:
    return f"dgx-vllm.port.{number}.{address}"


def _abstract(name: str) -> socket.socket | None:
    """A socket of that name, None where another has it."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(f"\0{name}")
    except OSError:
        made.close()
        return None
    return made


def _listening_sockets(number: int) -> Iterator[tuple[str, str]]:
    """The name and the address of each hold on a port."""
    prefix = f"@{_name('', number)}"
    try:
        lines = _SOCKETS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        name = line.rpartition(" ")[2]
        if name.startswith(prefix):
            yield name[1:], name.removeprefix(prefix)


def _owner(name: str) -> int | None:
    """The process that holds a name, None where it is in another namespace or does not say."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        asking.connect(f"\0{name}")
        pid, _, _ = struct.unpack("3i", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return pid or None
    return None


def _conflict(one: str, other: str) -> bool:
    """Whether two addresses cannot both be bound on one port."""
    try:
        first, second = _address(one), _address(other)
    except ValueError:
        return one == other
    if first == second:
        return True
    # :: takes IPv4 along, as long as nobody forbids it (net.ipv6.bindv6only).
    everywhere = [address for address in (first, second) if address.is_unspecified]
    return any(address.version == 6 for address in everywhere) or (
        bool(everywhere) and first.version == second.version
    )


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _bound(number: int) -> Iterator[str]:
    """The addresses at which a TCP port is bound and neither listens nor is connected."""
    for family, size, kind in ((socket.AF_INET, 4, socket.AF_INET), (socket.AF_INET6, 16, socket.AF_INET6)):
        for source, raw in _diagnosed(family):
            if source == number:
                yield socket.inet_ntop(kind, raw[:size])


def _diagnosed(family: int) -> list[tuple[int, bytes]]:
    """Port and address of the sockets in that state; none where the kernel does not say."""
    sockets: list[tuple[int, bytes]] = []
    request = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, _BOUND_INACTIVE)
    request += bytes(36) + struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
    head = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
            kernel.settimeout(_CHECK_SECONDS)
            kernel.send(head + request)
            while True:
                data = kernel.recv(1 << 16)
                at = 0
                while at + _HEADER.size <= len(data):
                    length, kind, *_ = _HEADER.unpack_from(data, at)
                    if kind in (_DONE, _ERROR) or length < _HEADER.size:
                        return sockets
                    message = at + _HEADER.size
                    (source,) = struct.unpack_from(">H", data, message + 4)
                    sockets.append((source, data[message + 8 : message + 24]))
                    at += (length + 3) & ~3
    except (OSError, struct.error):
        return sockets


# --- a Unix socket


def path(option: str) -> Hold:
    """Holds the path of a Unix socket, and removes what a server that is gone has left there.

    Raises:
        UserError: a server has it, something else lies there, or no socket can be made there.
    """
    target = Path(option)
    if len(os.fsencode(option)) > _LONGEST_PATH:
        raise UserError(
            f"--uds {option} is longer than the {_LONGEST_PATH} bytes that a Unix socket's path may have; "
            "choose a shorter one"
        )
    if not target.parent.is_dir():
        raise UserError(f"--uds {option}: there is no directory {target.parent}; make it, or choose another")
    lock = _locked(target)
    try:
        _clear(target)
    except UserError:
        _lock_file(target).unlink(missing_ok=True)
        os.close(lock)
        raise
    return Hold(lock=lock, path=target)


def _lock_file(target: Path) -> Path:
    return target.with_name(f"{target.name}.lock")


def _locked(target: Path) -> int:
    """The lock file next to a socket: seen wherever the directory is, in containers, too."""
    name = _lock_file(target)
    while True:
        try:
            lock = os.open(name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise UserError(
                f"the socket {target} is held by another dgx-vllm; choose another with --uds", FAILURE
            ) from error
        except OSError as error:
            raise UserError(
                f"--uds {target}: {name} cannot be made ({error.strerror}); choose another place", FAILURE
            ) from error
        with contextlib.suppress(OSError):
            # The one before may have removed the file between the two calls.
            if os.path.samestat(os.fstat(lock), os.stat(name)):
                return lock
        os.close(lock)


def _clear(target: Path) -> None:
    try:
        status = target.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise UserError(f"--uds {target}: the file there is not a socket; choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        refusal = asking.connect_ex(str(target))
    if refusal != errno.ECONNREFUSED or _is_bound(target):
        raise UserError(f"the socket {target} is in use; choose another with --uds", FAILURE)
    try:
        target.unlink()
    except OSError as error:
        raise UserError(
            f"--uds {target}: the socket that another server left there cannot be removed "
            f"({error.strerror}); remove it, or choose another path",
            FAILURE,
        ) from error


def _is_bound(target: Path) -> bool:
    """Whether a process of this network namespace has bound that path and does not listen yet."""
    try:
        lines = _SOCKETS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    columns = (line.split(maxsplit=7) for line in lines)
    names = {row[7] for row in columns if len(row) == 8}
    return bool({str(target), str(target.absolute())} & names)
