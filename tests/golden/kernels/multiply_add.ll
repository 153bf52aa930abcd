declare <16 x float> @llvm.masked.load.v16f32.p0(ptr, i32, <16 x i1>, <16 x float>)
declare void @llvm.masked.store.v16f32.p0(<16 x float>, ptr, i32, <16 x i1>)

define internal i32 @share(ptr %status, ptr %routine, ptr %kernel, ptr %words,
                           ptr %args) nounwind {
  %count = load i64, ptr %words
  %at_least = getelementptr i64, ptr %words, i64 1
  %least = load i64, ptr %at_least
  %at_grain = getelementptr i64, ptr %words, i64 2
  %grain = load i64, ptr %at_grain
  %word = getelementptr i64, ptr %status, i64 5
  %threads = load i64, ptr %word
  %several = icmp sgt i64 %threads, 1
  %much = icmp sgt i64 %count, %least
  %both = and i1 %several, %much
  br i1 %both, label %shared, label %alone
shared:
  %r0 = call i32 %routine(ptr %status, ptr %kernel, i64 %count, i64 %grain, ptr %args)
  ret i32 %r0
alone:
  %r1 = call i32 %kernel(ptr %status, i64 0, i64 %count, ptr %args)
  ret i32 %r1
}



define internal i32 @k_mul_add_95a21a939981(ptr %status, i64 %lo, i64 %hi, ptr %args) nounwind "prefer-vector-width"="512" "min-legal-vector-width"="512" {
entry:
  %pp0 = getelementptr ptr, ptr %args, i64 0
  %p0 = load ptr, ptr %pp0
  %pp1 = getelementptr ptr, ptr %args, i64 1
  %p1 = load ptr, ptr %pp1
  %pp2 = getelementptr ptr, ptr %args, i64 2
  %p2 = load ptr, ptr %pp2
  %i1 = sub i64 %hi, %lo
  %i2 = and i64 %i1, -16
  %i3 = add i64 %lo, %i2
  br label %head4
head4:
  %i7 = phi i64 [ %lo, %entry ], [ %i16, %body5 ]
  %t8 = icmp slt i64 %i7, %i3
  br i1 %t8, label %body5, label %exit6
body5:
  %a9 = getelementptr float, ptr %p0, i64 %i7
  %v10 = load <16 x float>, ptr %a9, align 4
  %a11 = getelementptr float, ptr %p1, i64 %i7
  %v12 = load <16 x float>, ptr %a11, align 4
  %v13 = fmul <16 x float> %v10, %v12
  %v14 = fadd <16 x float> %v13, splat (float 0x3FF0000000000000)
  %a15 = getelementptr float, ptr %p2, i64 %i7
  store <16 x float> %v14, ptr %a15, align 4
  %i16 = add nsw i64 %i7, 16
  br label %head4
exit6:
  br label %head17
head17:
  %i20 = phi i64 [ %i3, %exit6 ], [ %i33, %body18 ]
  %t21 = icmp slt i64 %i20, %hi
  br i1 %t21, label %body18, label %exit19
body18:
  %i22 = sub i64 %hi, %i20
  %v23 = insertelement <16 x i64> poison, i64 %i22, i64 0
  %v24 = shufflevector <16 x i64> %v23, <16 x i64> poison, <16 x i32> zeroinitializer
  %m25 = icmp slt <16 x i64> <i64 0, i64 1, i64 2, i64 3, i64 4, i64 5, i64 6, i64 7, i64 8, i64 9, i64 10, i64 11, i64 12, i64 13, i64 14, i64 15>, %v24
  %a26 = getelementptr float, ptr %p0, i64 %i20
  %v27 = call <16 x float> @llvm.masked.load.v16f32.p0(ptr %a26, i32 4, <16 x i1> %m25, <16 x float> zeroinitializer)
  %a28 = getelementptr float, ptr %p1, i64 %i20
  %v29 = call <16 x float> @llvm.masked.load.v16f32.p0(ptr %a28, i32 4, <16 x i1> %m25, <16 x float> zeroinitializer)
  %v30 = fmul <16 x float> %v27, %v29
  %v31 = fadd <16 x float> %v30, splat (float 0x3FF0000000000000)
  %a32 = getelementptr float, ptr %p2, i64 %i20
  call void @llvm.masked.store.v16f32.p0(<16 x float> %v31, ptr %a32, i32 4, <16 x i1> %m25)
  %i33 = add nsw i64 %i20, 16
  br label %head17
exit19:
  ret i32 0
}

define i32 @run_0(ptr %status, ptr %table) nounwind {
entry:
  %arguments = alloca [3 x i64], align 64
  %r1 = getelementptr ptr, ptr %table, i64 0
  %r2 = load ptr, ptr %r1
  %r3 = getelementptr ptr, ptr %table, i64 1
  %r4 = load ptr, ptr %r3
  %r5 = getelementptr ptr, ptr %table, i64 2
  %r6 = load ptr, ptr %r5
  %r7 = getelementptr i64, ptr %arguments, i64 0
  store ptr %r2, ptr %r7
  %r8 = getelementptr i64, ptr %arguments, i64 1
  store ptr %r4, ptr %r8
  %r9 = getelementptr i64, ptr %arguments, i64 2
  store ptr %r6, ptr %r9
  %r10 = getelementptr i64, ptr %table, i64 4
  %r11 = getelementptr ptr, ptr %table, i64 7
  %r12 = load ptr, ptr %r11
  %r13 = call i32 @share(ptr %status, ptr %r12, ptr @k_mul_add_95a21a939981, ptr %r10, ptr %arguments)
  ret i32 0
}
