"""SFTP version 3 on its way through the gateway: every request judged by what it does to which path, its bytes passed on as they came."""
