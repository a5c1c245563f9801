"""What does an operator or an administrator do from a terminal?

Doors: `doctor`, `import_`, `inspect`, `migrate`, `on_database`, `proxies`, `reconcile`, `reprocess`, `roles`,
`sdp`, `secret_option`, `send`, `show_settings`, `tenant`, `terminal`.
"""
