"""bkapp: one digital address per household of Bắc Kạn, public services and payments, on a phone."""
