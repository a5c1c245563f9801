"""What does an operator or an administrator do from a terminal?

Doors: `doctor`, `import_`, `inspect`, `language`, `migrate`, `on_database`, `proxies`, `read_token`, `reconcile`,
`reprocess`, `roles`, `sdp`, `secret_option`, `send`, `show_settings`, `similar`, `tenant`, `terminal`.
"""
