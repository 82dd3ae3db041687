"""Provokes one close.rst.unread: a server closes a connection whose data it did not read."""

import socket

listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server, _ = listener.accept()
client.sendall(b"unread")
server.recv(1, socket.MSG_PEEK)
server.close()
