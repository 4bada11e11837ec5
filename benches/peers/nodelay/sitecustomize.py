"""Put on PYTHONPATH, this sets TCP_NODELAY on every TCP socket of a Python program.

pp and ppft leave it off, and so wait for delayed acknowledgements (about 40 ms a job). This shows what they would do if
they set it; it is a system that nobody has who just installs them, and is shown as such.
"""

import socket

unchanged = socket.socket.__init__


def with_nodelay(self, *args, **kwargs):
    unchanged(self, *args, **kwargs)
    if self.family in (socket.AF_INET, socket.AF_INET6) and self.type == socket.SOCK_STREAM:
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


socket.socket.__init__ = with_nodelay
