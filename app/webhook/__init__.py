"""How is a resolved ticket's webhook verified, committed and answered?"""

PATH = "/webhook/servicedesk/resolved-ticket"
