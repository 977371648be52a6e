"""What a cluster on AWS needs around its machines: looked at, made, and taken away again.

`request` is what the user wants, `survey` reads the account, `rights` says who may do what;
`bucket`, `security_group` and `roles` are what is made, and `plan` is the loop over them. boto3
comes with the extra `aws` and is imported in `account` only.
"""
