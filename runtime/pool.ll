; The threads that help a call with its large kernels, and BLAS products among them.
;
;   parallel(status, kernel, count, grain, args)   runs kernel(status, lo, hi, args) over 0..count
;   products(status, kernel, count, grain, args)   the same, while the BLAS uses one thread a call
;
; The caller publishes a job, works at it itself, and helpers join while there are chunks of `grain`
; left. Chunks are claimed in order by an atomic counter. One job runs at a time: a second caller
; finds the pool busy and runs its kernel alone, so there are never more threads at work than were
; asked for. The caller waits only for helpers that did join: where another process keeps their cores,
; it does all the work itself.
;
; Helpers are threads of the system, made when the first job needs them. They wait for the next job
; by spinning for a moment, and then sleep on a condition variable.
;
; The gate says what a helper may do, in one word, so that joining is one compare-and-exchange:
;
;   [ job number : 32 ][ helpers that may still join : 16 ][ helpers at work : 16 ]
;
; Helpers work in the caller's floating-point mode.
;
; Status records are those of runtime/program.py: words 0 to 3 say what failed, word 4 is the number
; of the thread within the call (the caller is 0), word 5 how many threads the call has room for.
; Of all chunks that fail, the lowest is reported: the one that a single thread would have met first.

%cell = type [16 x i64] ; room for a mutex or a condition variable of any system

@busy = internal global i32 0, align 64 ; 1 while a caller owns the pool
@gate = internal global i64 0, align 64
@next = internal global i64 0, align 64 ; the next chunk to claim
@sleepers = internal global i64 0, align 64 ; helpers that wait on @wake
@waiting = internal global i64 0 ; 1 while the caller waits on @done
@started = internal global i64 0 ; helpers made so far

@kernel = internal global ptr null, align 64 ; the job: written before the gate opens
@args = internal global ptr null
@count = internal global i64 0
@grain = internal global i64 0
@chunks = internal global i64 0
@status = internal global ptr null
@mode = internal global i64 0 ; the caller's floating-point mode
@failed = internal global i64 0 ; the lowest chunk that has failed

@mutex = internal global %cell zeroinitializer, align 64
@wake = internal global %cell zeroinitializer, align 64
@done = internal global %cell zeroinitializer, align 64

@blas_lock = internal global i32 0, align 64 ; guards the next four
@blas_users = internal global i64 0 ; products under way
@blas_before = internal global i32 0 ; the BLAS's own number of threads, for afterwards
@blas_get = internal global ptr null
@blas_set = internal global ptr null

declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_detach(i64)
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_signal(ptr)
declare i32 @pthread_cond_broadcast(ptr)
declare i32 @sched_yield()

; -- jobs

define i32 @parallel(ptr %status, ptr %kernel, i64 %count, i64 %grain, ptr %args) nounwind {
entry:
  %lock = cmpxchg ptr @busy, i32 0, i32 1 acquire monotonic
  %owned = extractvalue { i32, i1 } %lock, 1
  br i1 %owned, label %enter, label %alone
enter:
  %limit_at = getelementptr i64, ptr %status, i64 5
  %limit = load i64, ptr %limit_at
  %above = add i64 %count, %grain
  %top = sub i64 %above, 1
  %chunks = udiv i64 %top, %grain
  %few = icmp ult i64 %chunks, %limit
  %threads = select i1 %few, i64 %chunks, i64 %limit
  %wanted = sub i64 %threads, 1
  %room = call i64 @start(i64 %wanted)
  %some = icmp sgt i64 %room, 0
  br i1 %some, label %publish, label %give_back
publish:
  store ptr %kernel, ptr @kernel
  store ptr %args, ptr @args
  store i64 %count, ptr @count
  store i64 %grain, ptr @grain
  store i64 %chunks, ptr @chunks
  store ptr %status, ptr @status
  %mode = call i64 @float_mode()
  store i64 %mode, ptr @mode
  store i64 9223372036854775807, ptr @failed
  store atomic i64 0, ptr @next monotonic, align 8
  %before = load atomic i64, ptr @gate monotonic, align 8
  %job = lshr i64 %before, 32
  %following = add i64 %job, 1
  %number = shl i64 %following, 32
  %places = shl i64 %room, 16
  %open = or i64 %number, %places
  store atomic i64 %open, ptr @gate seq_cst, align 8
  %asleep = load atomic i64, ptr @sleepers seq_cst, align 8
  %any = icmp ne i64 %asleep, 0
  br i1 %any, label %rouse, label %begin
rouse:
  %l0 = call i32 @pthread_mutex_lock(ptr @mutex)
  %l1 = call i32 @pthread_cond_broadcast(ptr @wake)
  %l2 = call i32 @pthread_mutex_unlock(ptr @mutex)
  br label %begin
begin:
  call void @work(i64 0)
  %at_end = atomicrmw and ptr @gate, i64 -4294901761 seq_cst ; no one joins from here on
  %helping = and i64 %at_end, 65535
  %alone_at_end = icmp eq i64 %helping, 0
  br i1 %alone_at_end, label %finish, label %wait
wait:
  call void @wait_for_helpers()
  br label %finish
finish:
  %lowest = load i64, ptr @failed
  %bad = icmp ne i64 %lowest, 9223372036854775807
  %result = zext i1 %bad to i32
  store atomic i32 0, ptr @busy release, align 4
  ret i32 %result
give_back:
  store atomic i32 0, ptr @busy release, align 4
  br label %alone
alone:
  %serial = call i32 %kernel(ptr %status, i64 0, i64 %count, ptr %args)
  ret i32 %serial
}

; As many helpers as are wanted, or as many as the system gives.
define internal i64 @start(i64 %wanted) nounwind {
entry:
  %id = alloca i64
  %first = load i64, ptr @started
  %fresh = icmp eq i64 %first, 0
  br i1 %fresh, label %prepare, label %check
prepare:
  %p0 = call i32 @pthread_mutex_init(ptr @mutex, ptr null)
  %p1 = call i32 @pthread_cond_init(ptr @wake, ptr null)
  %p2 = call i32 @pthread_cond_init(ptr @done, ptr null)
  br label %check
check:
  %have = load i64, ptr @started
  %enough = icmp sge i64 %have, %wanted
  br i1 %enough, label %whole, label %make
make:
  %error = call i32 @pthread_create(ptr %id, ptr null, ptr @helper, ptr null)
  %refused = icmp ne i32 %error, 0
  br i1 %refused, label %partial, label %made
made:
  %thread = load i64, ptr %id
  %p3 = call i32 @pthread_detach(i64 %thread)
  %more = add i64 %have, 1
  store i64 %more, ptr @started
  br label %check
whole:
  ret i64 %wanted
partial:
  ret i64 %have
}

; Claim chunks and run them, until none is left or one fails.
define internal void @work(i64 %number) nounwind {
entry:
  %record = alloca [8 x i64], align 64
  %number_at = getelementptr i64, ptr %record, i64 4
  store i64 %number, ptr %number_at
  %kernel = load ptr, ptr @kernel
  %args = load ptr, ptr @args
  %count = load i64, ptr @count
  %grain = load i64, ptr @grain
  %chunks = load i64, ptr @chunks
  br label %claim
claim:
  %chunk = atomicrmw add ptr @next, i64 1 monotonic
  %inside = icmp ult i64 %chunk, %chunks
  br i1 %inside, label %run, label %leave
run:
  %lo = mul i64 %chunk, %grain
  %end = add i64 %lo, %grain
  %past = icmp sgt i64 %end, %count
  %hi = select i1 %past, i64 %count, i64 %end
  %result = call i32 %kernel(ptr %record, i64 %lo, i64 %hi, ptr %args)
  %bad = icmp ne i32 %result, 0
  br i1 %bad, label %report, label %claim
report:
  store atomic i64 4611686018427387904, ptr @next monotonic, align 8
  %r0 = call i32 @pthread_mutex_lock(ptr @mutex)
  %lowest = load i64, ptr @failed
  %first = icmp ult i64 %chunk, %lowest
  br i1 %first, label %tell, label %told
tell:
  store i64 %chunk, ptr @failed
  %status = load ptr, ptr @status
  %words = load <4 x i64>, ptr %record, align 8
  store <4 x i64> %words, ptr %status, align 8
  br label %told
told:
  %r1 = call i32 @pthread_mutex_unlock(ptr @mutex)
  br label %leave
leave:
  ret void
}

define internal void @wait_for_helpers() nounwind {
entry:
  br label %spin
spin:
  %turn = phi i64 [ 0, %entry ], [ %following, %again ]
  %now = load atomic i64, ptr @gate acquire, align 8
  %helping = and i64 %now, 65535
  %left = icmp eq i64 %helping, 0
  br i1 %left, label %finish, label %again
again:
  call void @relax(i64 %turn)
  %following = add i64 %turn, 1
  %patient = icmp ult i64 %following, SPINS
  br i1 %patient, label %spin, label %sleep
sleep:
  %s0 = call i32 @pthread_mutex_lock(ptr @mutex)
  store atomic i64 1, ptr @waiting seq_cst, align 8
  br label %look
look:
  %then = load atomic i64, ptr @gate seq_cst, align 8
  %still = and i64 %then, 65535
  %over = icmp eq i64 %still, 0
  br i1 %over, label %awake, label %block
block:
  %s1 = call i32 @pthread_cond_wait(ptr @done, ptr @mutex)
  br label %look
awake:
  store atomic i64 0, ptr @waiting monotonic, align 8
  %s2 = call i32 @pthread_mutex_unlock(ptr @mutex)
  br label %finish
finish:
  ret void
}

; A moment of waiting. Now and then the core is offered to others: to the one waited for, perhaps.
define internal void @relax(i64 %turn) alwaysinline nounwind {
  %low = and i64 %turn, 63
  %often = icmp ne i64 %low, 63
  br i1 %often, label %pause, label %yield
pause:
  RELAX
  ret void
yield:
  %y = call i32 @sched_yield()
  ret void
}

; -- helpers

define internal ptr @helper(ptr %unused) nounwind {
entry:
  br label %next_job
next_job:
  %seen = phi i64 [ 0, %entry ], [ %seen, %join ], [ %job, %help ], [ %job, %tell ]
  %state = call i64 @wait_for_job(i64 %seen)
  br label %join
join:
  %joined = sub i64 %state, 65535 ; one place fewer, one helper more
  %swap = cmpxchg ptr @gate, i64 %state, i64 %joined seq_cst monotonic
  %inside = extractvalue { i64, i1 } %swap, 1
  br i1 %inside, label %help, label %next_job
help:
  %job = lshr i64 %state, 32
  %places = lshr i64 %state, 16
  %number = and i64 %places, 65535 ; no two helpers of a job find the same number of places
  %mode = load i64, ptr @mode
  call void @set_float_mode(i64 %mode)
  call void @work(i64 %number)
  %left = atomicrmw sub ptr @gate, i64 1 seq_cst
  %waiting = load atomic i64, ptr @waiting seq_cst, align 8
  %must_tell = icmp ne i64 %waiting, 0
  br i1 %must_tell, label %tell, label %next_job
tell:
  %t0 = call i32 @pthread_mutex_lock(ptr @mutex)
  %t1 = call i32 @pthread_cond_signal(ptr @done)
  %t2 = call i32 @pthread_mutex_unlock(ptr @mutex)
  br label %next_job
}

; The gate, once it stands open for a job other than the one that was `seen`.
define internal i64 @wait_for_job(i64 %seen) nounwind {
entry:
  br label %spin
spin:
  %turn = phi i64 [ 0, %entry ], [ %following, %again ]
  %now = load atomic i64, ptr @gate acquire, align 8
  %open = call i1 @is_open(i64 %now, i64 %seen)
  br i1 %open, label %found, label %again
again:
  call void @relax(i64 %turn)
  %following = add i64 %turn, 1
  %patient = icmp ult i64 %following, SPINS
  br i1 %patient, label %spin, label %sleep
found:
  ret i64 %now
sleep:
  %s0 = call i32 @pthread_mutex_lock(ptr @mutex)
  %s1 = atomicrmw add ptr @sleepers, i64 1 seq_cst
  br label %look
look:
  %then = load atomic i64, ptr @gate seq_cst, align 8
  %opened = call i1 @is_open(i64 %then, i64 %seen)
  br i1 %opened, label %awake, label %block
block:
  %s2 = call i32 @pthread_cond_wait(ptr @wake, ptr @mutex)
  br label %look
awake:
  %s3 = atomicrmw sub ptr @sleepers, i64 1 seq_cst
  %s4 = call i32 @pthread_mutex_unlock(ptr @mutex)
  ret i64 %then
}

define internal i1 @is_open(i64 %state, i64 %seen) alwaysinline nounwind {
  %job = lshr i64 %state, 32
  %other = icmp ne i64 %job, %seen
  %shifted = lshr i64 %state, 16
  %places = and i64 %shifted, 65535
  %free = icmp ne i64 %places, 0
  %open = and i1 %other, %free
  ret i1 %open
}

; -- products

; While any is under way the BLAS itself uses one thread: two pools would fight for the cores, and a
; pool whose thread has lost its core keeps the caller waiting.
define i32 @products(ptr %status, ptr %kernel, i64 %count, i64 %grain, ptr %args) nounwind {
  %set = load ptr, ptr @blas_set
  %no_switch = icmp eq ptr %set, null
  br i1 %no_switch, label %direct, label %enter
direct:
  %r0 = call i32 %kernel(ptr %status, i64 0, i64 %count, ptr %args)
  ret i32 %r0
enter:
  call void @lock_blas()
  %users = load i64, ptr @blas_users
  %joined = add i64 %users, 1
  store i64 %joined, ptr @blas_users
  %first = icmp eq i64 %users, 0
  br i1 %first, label %switch, label %run
switch:
  %get = load ptr, ptr @blas_get
  %before = call i32 %get()
  store i32 %before, ptr @blas_before
  call void %set(i32 1)
  br label %run
run:
  store atomic i32 0, ptr @blas_lock release, align 4
  %many = icmp sgt i64 %count, %grain
  br i1 %many, label %divide, label %whole
divide:
  %r1 = call i32 @parallel(ptr %status, ptr %kernel, i64 %count, i64 %grain, ptr %args)
  br label %leave
whole:
  %r2 = call i32 %kernel(ptr %status, i64 0, i64 %count, ptr %args)
  br label %leave
leave:
  %result = phi i32 [ %r1, %divide ], [ %r2, %whole ]
  call void @lock_blas()
  %now = load i64, ptr @blas_users
  %rest = sub i64 %now, 1
  store i64 %rest, ptr @blas_users
  %last = icmp eq i64 %rest, 0
  br i1 %last, label %restore, label %return
restore:
  %own = load i32, ptr @blas_before
  call void %set(i32 %own)
  br label %return
return:
  store atomic i32 0, ptr @blas_lock release, align 4
  ret i32 %result
}

define internal void @lock_blas() nounwind {
entry:
  br label %try
try:
  %lock = cmpxchg ptr @blas_lock, i32 0, i32 1 acquire monotonic
  %owned = extractvalue { i32, i1 } %lock, 1
  br i1 %owned, label %done, label %yield
yield:
  %y = call i32 @sched_yield()
  br label %try
done:
  ret void
}

; The switch of the BLAS: functions that get and set its number of threads.
define void @use_blas(ptr %get, ptr %set) nounwind {
  store ptr %get, ptr @blas_get
  store ptr %set, ptr @blas_set
  ret void
}

; Another number of threads for the BLAS: now, or when the products under way have ended.
define void @set_blas(i32 %count) nounwind {
entry:
  call void @lock_blas()
  %set = load ptr, ptr @blas_set
  %users = load i64, ptr @blas_users
  %inside = icmp ne i64 %users, 0
  %now = select i1 %inside, i32 1, i32 %count
  store i32 %count, ptr @blas_before
  call void %set(i32 %now)
  store atomic i32 0, ptr @blas_lock release, align 4
  ret void
}

; For the child of a fork, which has the memory of the pool but none of its threads.
define void @forget() nounwind {
entry:
  store i32 0, ptr @busy
  store i64 0, ptr @gate
  store i64 0, ptr @sleepers
  store i64 0, ptr @waiting
  store i64 0, ptr @started
  store i32 0, ptr @blas_lock
  %users = load i64, ptr @blas_users
  %inside = icmp ne i64 %users, 0
  br i1 %inside, label %restore, label %done
restore:
  store i64 0, ptr @blas_users
  %set = load ptr, ptr @blas_set
  %own = load i32, ptr @blas_before
  call void %set(i32 %own)
  br label %done
done:
  ret void
}
