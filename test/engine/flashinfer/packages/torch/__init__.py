bfloat16 = "bf16"
int32 = "i32"
