; The native entry of compiled calls: what Python runs for `f(x, ...)` once a trace is compiled.
;
; One function, `call`, serves every program; entry.py writes what it reads. It looks through the
; forms of the called function for one that fits the arguments, makes the outputs, runs the program
; and builds the result. Where anything is out of the ordinary it changes nothing and calls `plain`,
; the same call written in Python.
;
; Python and NumPy objects are read by the layouts below, which layout.py has compared with what
; Python says of some objects before this code is loaded.

%Object = type { i64, ptr }                                 ; reference count, type
%Array = type { %Object, ptr, i32, ptr, ptr, ptr, ptr, i32 } ; data, rank, sizes, strides, base,
                                                            ; dtype, flags

; What entry.py fills in when it loads this code.
@none = global ptr null
@true = global ptr null
@empty = global ptr null            ; the empty tuple
@float_type = global ptr null
@tuple_type = global ptr null
@list_type = global ptr null
@dict_type = global ptr null
@array_type = global ptr null       ; numpy.ndarray
@new_array = global ptr null        ; PyArray_NewFromDescr
@tensor_type = global ptr null      ; what holds an array in the slot at tensor_array
@tensor_array = global i64 0
@tensor_weak = global i64 0         ; where its weak references begin
@variable_tensor = global i64 0     ; the slot of a variable that holds its tensor
@forms_type = global ptr null       ; what a function holds in the slot at function_forms
@function_forms = global i64 0
@forms_words = global i64 0         ; its slot with an array: the number of forms,
                                    ; the address of that which ran last or 0, all addresses
@state = global ptr null            ; a threading.local: where its attribute `builder` is set, it must
@dict_name = global ptr null        ; be None, and `recorders` empty
@builder_name = global ptr null
@recorders_name = global ptr null
@thread = global i64 0              ; the thread that made the last call; 0 is none
@attributes = global ptr null       ; its attributes of `state`
@plain = global ptr null
@off = global i64 0                 ; 1 sends every call to `plain`

; A trace: what arguments it takes, and what surrounds a run. Addresses of arrays where a line says
; "code"; their instructions are described at `fits` and `capture`.
%Form = type {
  i64,  ;  0 parameters
  i64,  ;  1 parameters that may be given by position, the first ones
  ptr,  ;  2 the name of each, or null
  ptr,  ;  3 the default of each, or null
  i64,  ;  4 registers: the parameters, then the items of lists, tuples and dicts
  ptr,  ;  5 code that checks arguments
  i64,  ;  6 arrays that this code finds
  i64,  ;  7 open sizes that it finds
  ptr,  ;  8 the first plan
  ptr,  ;  9 a callable that tells whether the guards hold, or null
  i64,  ; 10 locks
  ptr,  ; 11 for each lock, the callables that acquire and release it
  ptr,  ; 12 code that finds captured arrays
  i64,  ; 13 outputs that are returned; the others go to variables
  i64,  ; 14 result: 0 the only output, 1 a tuple, 2 a list, 3 what `builder` makes of a list
  ptr,  ; 15 builder
  i64   ; 16 calls so far
}

; A program, ready for one tuple of open sizes. It serves one call at a time.
%Plan = type {
  ptr,  ;  0 the next plan
  ptr,  ;  1 its open sizes
  i64,  ;  2 busy
  i64,  ;  3 whether to release the GIL
  ptr,  ;  4 table: addresses of inputs, then of outputs, then what no call changes
  ptr,  ;  5 status record
  i64,  ;  6 native functions to call in turn
  ptr,  ;  7 their addresses
  i64,  ;  8 outputs
  ptr,  ;  9 an %Output for each
  ptr,  ; 10 room for a pointer an input: the arrays that this call holds
  ptr,  ; 11 room for a pointer an output: the tensors made
  ptr   ; 12 room for a word an output: 1 if it is written over a variable's old value
}

; dtype, rank, sizes, the variable that it goes to or null, and the input that is that variable's
; old value if the output may be written over it, or -1
%Output = type { ptr, i64, ptr, ptr, i64 }

declare ptr @PyObject_GetAttr(ptr, ptr)
declare ptr @PyObject_CallNoArgs(ptr)
declare ptr @PyObject_CallOneArg(ptr, ptr)
declare ptr @PyObject_Vectorcall(ptr, ptr, i64, ptr)
declare i32 @PyObject_RichCompareBool(ptr, ptr, i32)
declare ptr @PyType_GenericAlloc(ptr, i64)
declare double @PyFloat_AsDouble(ptr)
declare i64 @PyTuple_Size(ptr)
declare ptr @PyTuple_GetItem(ptr, i64)
declare ptr @PyTuple_New(i64)
declare i32 @PyTuple_SetItem(ptr, i64, ptr)
declare i64 @PyList_Size(ptr)
declare ptr @PyList_GetItem(ptr, i64)
declare ptr @PyList_New(i64)
declare i32 @PyList_SetItem(ptr, i64, ptr)
declare i64 @PyDict_Size(ptr)
declare ptr @PyDict_GetItemWithError(ptr, ptr)
declare ptr @PyErr_Occurred()
declare void @PyErr_Clear()
declare void @PyErr_Fetch(ptr, ptr, ptr)
declare void @PyErr_Restore(ptr, ptr, ptr)
declare ptr @PyThreadState_Get()
declare i64 @PyThreadState_GetID(ptr)
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare void @Py_IncRef(ptr)
declare void @Py_DecRef(ptr)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

; Words and pointers of an array, by index.

define internal i64 @word(ptr %array, i64 %index) alwaysinline {
  %at = getelementptr i64, ptr %array, i64 %index
  %found = load i64, ptr %at
  ret i64 %found
}

define internal ptr @pointer(ptr %array, i64 %index) alwaysinline {
  %at = getelementptr ptr, ptr %array, i64 %index
  %found = load ptr, ptr %at
  ret ptr %found
}

define internal void @put(ptr %array, i64 %index, ptr %value) alwaysinline {
  %at = getelementptr ptr, ptr %array, i64 %index
  store ptr %value, ptr %at
  ret void
}

; The value of *counter, which then grows by one.
define internal i64 @next(ptr %counter) alwaysinline {
  %n = load i64, ptr %counter
  %more = add i64 %n, 1
  store i64 %more, ptr %counter
  ret i64 %n
}

define internal ptr @type(ptr %object) alwaysinline {
  %at = getelementptr %Object, ptr %object, i32 0, i32 1
  %found = load ptr, ptr %at
  ret ptr %found
}

define internal ptr @slot(ptr %object, ptr %offset_at) alwaysinline {
  %offset = load i64, ptr %offset_at
  %at = getelementptr i8, ptr %object, i64 %offset
  %found = load ptr, ptr %at
  ret ptr %found
}

define internal void @set_slot(ptr %object, ptr %offset_at, ptr %value) alwaysinline {
  %offset = load i64, ptr %offset_at
  %at = getelementptr i8, ptr %object, i64 %offset
  store ptr %value, ptr %at
  ret void
}

define internal ptr @data(ptr %array) alwaysinline {
  %at = getelementptr %Array, ptr %array, i32 0, i32 1
  %found = load ptr, ptr %at
  ret ptr %found
}

; Is `array` a contiguous, aligned ndarray with the dtype, rank and sizes that lie at `wanted`?
; A size of -1 there is open: what it is goes to *sizes, which then points behind it.
define internal i1 @array_fits(ptr %array, ptr %wanted, ptr %sizes) {
  %axis = alloca i64
  store i64 0, ptr %axis
  %none = icmp eq ptr %array, null
  br i1 %none, label %no, label %typed
typed:
  %type = call ptr @type(ptr %array)
  %array_type = load ptr, ptr @array_type
  %is_array = icmp eq ptr %type, %array_type
  br i1 %is_array, label %simple, label %no
simple:
  %dtype_at = getelementptr %Array, ptr %array, i32 0, i32 6
  %dtype = load ptr, ptr %dtype_at
  %wanted_dtype = load ptr, ptr %wanted
  %same_dtype = icmp eq ptr %dtype, %wanted_dtype
  %rank_at = getelementptr %Array, ptr %array, i32 0, i32 2
  %rank32 = load i32, ptr %rank_at
  %rank = sext i32 %rank32 to i64
  %wanted_rank = call i64 @word(ptr %wanted, i64 1)
  %same_rank = icmp eq i64 %rank, %wanted_rank
  %flags_at = getelementptr %Array, ptr %array, i32 0, i32 7
  %flags = load i32, ptr %flags_at
  %ordered = and i32 %flags, 257                     ; C_CONTIGUOUS, ALIGNED
  %is_ordered = icmp eq i32 %ordered, 257
  %same_kind = and i1 %same_dtype, %same_rank
  %so_far = and i1 %same_kind, %is_ordered
  %shape_at = getelementptr %Array, ptr %array, i32 0, i32 3
  %shape = load ptr, ptr %shape_at
  br i1 %so_far, label %axes, label %no
axes:
  %i = load i64, ptr %axis
  %more = icmp slt i64 %i, %rank
  br i1 %more, label %compare, label %yes
compare:
  %n = call i64 @word(ptr %shape, i64 %i)
  %after = add i64 %i, 1
  store i64 %after, ptr %axis
  %place = add i64 %i, 2
  %wanted_n = call i64 @word(ptr %wanted, i64 %place)
  %same_n = icmp eq i64 %n, %wanted_n
  br i1 %same_n, label %axes, label %differs
differs:
  %open = icmp eq i64 %wanted_n, -1
  br i1 %open, label %note, label %no
note:
  %at = load ptr, ptr %sizes
  store i64 %n, ptr %at
  %behind = getelementptr i64, ptr %at, i64 1
  store ptr %behind, ptr %sizes
  br label %axes
yes:
  ret i1 true
no:
  ret i1 false
}

; Do the arguments in `registers` fit `code`? Then `arrays` are the arrays of those that are
; tensors, borrowed, and `sizes` the open sizes. No Python code runs, but for the keys of dicts.
;
;   0 end
;   1 tensor     register, dtype, rank, sizes     also an ndarray
;   2 same       register, object, type or 0      by identity, or equal and of this type
;   3 float      register, bits
;   4 reference  register, weak reference         the object that it refers to
;   5 tuple      register, length, first          its items go to registers `first` and on
;   6 list       register, length, first
;   7 dict       register, length
;   8 key        register, key, to                the dict's value goes to register `to`
define internal i1 @fits(ptr %form_code, ptr %registers, ptr %arrays, ptr %sizes) {
  %code_at = alloca ptr
  %sizes_at = alloca ptr
  %found = alloca i64
  %item = alloca i64
  store ptr %form_code, ptr %code_at
  store ptr %sizes, ptr %sizes_at
  store i64 0, ptr %found
  br label %step
step:
  %code = load ptr, ptr %code_at
  %what = load i64, ptr %code
  %register = call i64 @word(ptr %code, i64 1)
  %a = call i64 @word(ptr %code, i64 2)
  switch i64 %what, label %yes [
    i64 1, label %tensor
    i64 2, label %same
    i64 3, label %float
    i64 4, label %reference
    i64 5, label %tuple
    i64 6, label %list
    i64 7, label %dict
    i64 8, label %key
  ]

tensor:
  %x = call ptr @pointer(ptr %registers, i64 %register)
  %x_type = call ptr @type(ptr %x)
  %tensor_type = load ptr, ptr @tensor_type
  %is_tensor = icmp eq ptr %x_type, %tensor_type
  br i1 %is_tensor, label %unwrap, label %got
unwrap:
  %inner = call ptr @slot(ptr %x, ptr @tensor_array)
  br label %got
got:
  %array = phi ptr [ %x, %tensor ], [ %inner, %unwrap ]
  %wanted = getelementptr i64, ptr %code, i64 2
  %array_ok = call i1 @array_fits(ptr %array, ptr %wanted, ptr %sizes_at)
  br i1 %array_ok, label %keep, label %no
keep:
  %k = call i64 @next(ptr %found)
  call void @put(ptr %arrays, i64 %k, ptr %array)
  %rank = call i64 @word(ptr %code, i64 3)
  %long = add i64 %rank, 4
  %behind = getelementptr i64, ptr %code, i64 %long
  store ptr %behind, ptr %code_at
  br label %step

same:
  %object = inttoptr i64 %a to ptr
  %y = call ptr @pointer(ptr %registers, i64 %register)
  %identical = icmp eq ptr %y, %object
  br i1 %identical, label %four, label %equal
equal:
  %y_type = call ptr @type(ptr %y)
  %equal_type = call ptr @pointer(ptr %code, i64 3)
  %comparable = icmp eq ptr %y_type, %equal_type
  br i1 %comparable, label %compare, label %no
compare:
  %answer = call i32 @PyObject_RichCompareBool(ptr %y, ptr %object, i32 2)
  %is_equal = icmp eq i32 %answer, 1
  br i1 %is_equal, label %four, label %failed

float:
  %z = call ptr @pointer(ptr %registers, i64 %register)
  %z_type = call ptr @type(ptr %z)
  %float_type = load ptr, ptr @float_type
  %is_float = icmp eq ptr %z_type, %float_type
  br i1 %is_float, label %bits, label %no
bits:
  %number = call double @PyFloat_AsDouble(ptr %z)
  %its_bits = bitcast double %number to i64
  %same_bits = icmp eq i64 %its_bits, %a
  br i1 %same_bits, label %three, label %no

reference:
  %weak = inttoptr i64 %a to ptr
  %referent = call ptr @PyObject_CallNoArgs(ptr %weak)
  %dead = icmp eq ptr %referent, null
  br i1 %dead, label %failed, label %alive
alive:
  call void @Py_DecRef(ptr %referent)
  %w = call ptr @pointer(ptr %registers, i64 %register)
  %is_referent = icmp eq ptr %w, %referent
  br i1 %is_referent, label %three, label %no

tuple:
  %t = call ptr @pointer(ptr %registers, i64 %register)
  %t_type = call ptr @type(ptr %t)
  %tuple_type = load ptr, ptr @tuple_type
  %is_tuple = icmp eq ptr %t_type, %tuple_type
  br i1 %is_tuple, label %tuple_length, label %no
tuple_length:
  %tuple_size = call i64 @PyTuple_Size(ptr %t)
  %tuple_ok = icmp eq i64 %tuple_size, %a
  store i64 0, ptr %item
  br i1 %tuple_ok, label %tuple_items, label %no
tuple_items:
  %ti = call i64 @next(ptr %item)
  %tuple_more = icmp slt i64 %ti, %a
  br i1 %tuple_more, label %tuple_item, label %four
tuple_item:
  %tuple_value = call ptr @PyTuple_GetItem(ptr %t, i64 %ti)
  %tuple_first = call i64 @word(ptr %code, i64 3)
  %tuple_to = add i64 %tuple_first, %ti
  call void @put(ptr %registers, i64 %tuple_to, ptr %tuple_value)
  br label %tuple_items

list:
  %l = call ptr @pointer(ptr %registers, i64 %register)
  %l_type = call ptr @type(ptr %l)
  %list_type = load ptr, ptr @list_type
  %is_list = icmp eq ptr %l_type, %list_type
  br i1 %is_list, label %list_length, label %no
list_length:
  %list_size = call i64 @PyList_Size(ptr %l)
  %list_ok = icmp eq i64 %list_size, %a
  store i64 0, ptr %item
  br i1 %list_ok, label %list_items, label %no
list_items:
  %li = call i64 @next(ptr %item)
  %list_more = icmp slt i64 %li, %a
  br i1 %list_more, label %list_item, label %four
list_item:
  %list_value = call ptr @PyList_GetItem(ptr %l, i64 %li)
  %list_first = call i64 @word(ptr %code, i64 3)
  %list_to = add i64 %list_first, %li
  call void @put(ptr %registers, i64 %list_to, ptr %list_value)
  br label %list_items

dict:
  %d = call ptr @pointer(ptr %registers, i64 %register)
  %d_type = call ptr @type(ptr %d)
  %dict_type = load ptr, ptr @dict_type
  %is_dict = icmp eq ptr %d_type, %dict_type
  br i1 %is_dict, label %dict_length, label %no
dict_length:
  %dict_size = call i64 @PyDict_Size(ptr %d)
  %dict_ok = icmp eq i64 %dict_size, %a
  br i1 %dict_ok, label %three, label %no

key:
  %m = call ptr @pointer(ptr %registers, i64 %register)
  %name = inttoptr i64 %a to ptr
  %value = call ptr @PyDict_GetItemWithError(ptr %m, ptr %name)
  %missing = icmp eq ptr %value, null
  br i1 %missing, label %failed, label %value_found
value_found:
  %key_to = call i64 @word(ptr %code, i64 3)
  call void @put(ptr %registers, i64 %key_to, ptr %value)
  br label %four

three:
  %after_three = getelementptr i64, ptr %code, i64 3
  store ptr %after_three, ptr %code_at
  br label %step
four:
  %after_four = getelementptr i64, ptr %code, i64 4
  store ptr %after_four, ptr %code_at
  br label %step
yes:
  ret i1 true
failed:                                              ; perhaps by an exception
  call void @PyErr_Clear()
  br label %no
no:
  ret i1 false
}

; The array of the captured value that *code_at describes, held, or null; *code_at moves behind it.
;
;   0 end
;   1 array     array
;   2 variable  variable, dtype, rank, sizes
;   3 getter    callable that returns a tensor, dtype, rank, sizes
define internal ptr @capture(ptr %code_at) {
  %no_sizes = alloca ptr
  store ptr null, ptr %no_sizes
  %code = load ptr, ptr %code_at
  %what = load i64, ptr %code
  %source = call ptr @pointer(ptr %code, i64 1)
  %wanted = getelementptr i64, ptr %code, i64 2
  %is_array = icmp eq i64 %what, 1
  br i1 %is_array, label %array, label %typed
array:
  store ptr %wanted, ptr %code_at
  call void @Py_IncRef(ptr %source)
  ret ptr %source
typed:
  %rank = call i64 @word(ptr %code, i64 3)
  %long = add i64 %rank, 4
  %behind = getelementptr i64, ptr %code, i64 %long
  store ptr %behind, ptr %code_at
  %is_variable = icmp eq i64 %what, 2
  br i1 %is_variable, label %variable, label %getter
variable:
  %value = call ptr @slot(ptr %source, ptr @variable_tensor)
  %no_value = icmp eq ptr %value, null
  br i1 %no_value, label %nothing, label %hold
hold:
  call void @Py_IncRef(ptr %value)
  br label %got
getter:
  %result = call ptr @PyObject_CallNoArgs(ptr %source)
  %raised = icmp eq ptr %result, null
  br i1 %raised, label %nothing, label %got
got:
  %tensor = phi ptr [ %value, %hold ], [ %result, %getter ]
  %type = call ptr @type(ptr %tensor)
  %tensor_type = load ptr, ptr @tensor_type
  %is_tensor = icmp eq ptr %type, %tensor_type
  br i1 %is_tensor, label %unwrap, label %drop
unwrap:
  %inner = call ptr @slot(ptr %tensor, ptr @tensor_array)
  %ok = call i1 @array_fits(ptr %inner, ptr %wanted, ptr %no_sizes)
  br i1 %ok, label %keep, label %drop
keep:
  call void @Py_IncRef(ptr %inner)
  br label %drop
drop:
  %found = phi ptr [ null, %got ], [ null, %unwrap ], [ %inner, %keep ]
  call void @Py_DecRef(ptr %tensor)
  ret ptr %found
nothing:
  ret ptr null
}

; A tensor around a new array for `output`, or null with an exception.
define internal ptr @new_tensor(ptr %output) {
  %dtype = load ptr, ptr %output
  %rank_at = getelementptr %Output, ptr %output, i32 0, i32 1
  %rank = load i64, ptr %rank_at
  %rank32 = trunc i64 %rank to i32
  %sizes_at = getelementptr %Output, ptr %output, i32 0, i32 2
  %sizes = load ptr, ptr %sizes_at
  %array_type = load ptr, ptr @array_type
  %new_array = load ptr, ptr @new_array
  call void @Py_IncRef(ptr %dtype)                   ; the call takes a reference over
  %array = call ptr %new_array(ptr %array_type, ptr %dtype, i32 %rank32, ptr %sizes, ptr null,
                               ptr null, i32 0, ptr null)
  %failed = icmp eq ptr %array, null
  br i1 %failed, label %no, label %wrap
wrap:
  %tensor_type = load ptr, ptr @tensor_type
  %tensor = call ptr @PyType_GenericAlloc(ptr %tensor_type, i64 0)
  %alone = icmp eq ptr %tensor, null
  br i1 %alone, label %drop, label %fill
fill:
  call void @set_slot(ptr %tensor, ptr @tensor_array, ptr %array)
  ret ptr %tensor
drop:
  call void @Py_DecRef(ptr %array)
  br label %no
no:
  ret ptr null
}

; Is `input` the memory of the variable's tensor, with no holders but that tensor and this call, and
; the tensor with none but the variable?
define internal i1 @held_once(ptr %variable, ptr %input) {
  %tensor = call ptr @slot(ptr %variable, ptr @variable_tensor)
  %type = call ptr @type(ptr %tensor)
  %tensor_type = load ptr, ptr @tensor_type
  %is_tensor = icmp eq ptr %type, %tensor_type
  br i1 %is_tensor, label %holder, label %no
holder:
  %array = call ptr @slot(ptr %tensor, ptr @tensor_array)
  %is_input = icmp eq ptr %array, %input
  br i1 %is_input, label %count, label %no
count:
  %tensor_count = load i64, ptr %tensor
  %tensor_ok = icmp eq i64 %tensor_count, 1
  %array_count = load i64, ptr %array
  %array_ok = icmp eq i64 %array_count, 2             ; the tensor's and this call's
  %weak = call ptr @slot(ptr %tensor, ptr @tensor_weak)
  %weak_ok = icmp eq ptr %weak, null
  %base_at = getelementptr %Array, ptr %array, i32 0, i32 5
  %base = load ptr, ptr %base_at
  %base_ok = icmp eq ptr %base, null
  %flags_at = getelementptr %Array, ptr %array, i32 0, i32 7
  %flags = load i32, ptr %flags_at
  %own = and i32 %flags, 1028                         ; OWNDATA, WRITEABLE
  %own_ok = icmp eq i32 %own, 1028
  %a = and i1 %tensor_ok, %array_ok
  %b = and i1 %weak_ok, %base_ok
  %c = and i1 %a, %b
  %d = and i1 %c, %own_ok
  ret i1 %d
no:
  ret i1 false
}

; Run `plan` on the arrays of the arguments. The result, or null: with an exception set it is the
; caller's; without one nothing has happened, and `plain` is to make the call.
define internal ptr @run(ptr %form, ptr %plan, ptr %arrays) {
  %result = alloca ptr
  %held_n = alloca i64                                ; references in `held`
  %locked_n = alloca i64                              ; locks acquired
  %made_n = alloca i64                                ; outputs in `made`
  %code_at = alloca ptr
  %k_at = alloca i64
  %error_type = alloca ptr
  %error = alloca ptr
  %error_trace = alloca ptr
  store ptr null, ptr %result
  store i64 0, ptr %held_n
  store i64 0, ptr %locked_n
  store i64 0, ptr %made_n
  %busy_at = getelementptr %Plan, ptr %plan, i32 0, i32 2
  store i64 1, ptr %busy_at
  %given_at = getelementptr %Form, ptr %form, i32 0, i32 6
  %given = load i64, ptr %given_at
  %release_at = getelementptr %Plan, ptr %plan, i32 0, i32 3
  %release = load i64, ptr %release_at
  %releases = icmp ne i64 %release, 0
  %table_at = getelementptr %Plan, ptr %plan, i32 0, i32 4
  %table = load ptr, ptr %table_at
  %outputs_at = getelementptr %Plan, ptr %plan, i32 0, i32 8
  %outputs = load i64, ptr %outputs_at
  %specs_at = getelementptr %Plan, ptr %plan, i32 0, i32 9
  %specs = load ptr, ptr %specs_at
  %held_at = getelementptr %Plan, ptr %plan, i32 0, i32 10
  %held = load ptr, ptr %held_at
  %made_at = getelementptr %Plan, ptr %plan, i32 0, i32 11
  %made = load ptr, ptr %made_at
  %over_at = getelementptr %Plan, ptr %plan, i32 0, i32 12
  %over = load ptr, ptr %over_at
  %returned_at = getelementptr %Form, ptr %form, i32 0, i32 13
  %returned = load i64, ptr %returned_at
  %locks_at = getelementptr %Form, ptr %form, i32 0, i32 10
  %locks = load i64, ptr %locks_at
  %lock_table_at = getelementptr %Form, ptr %form, i32 0, i32 11
  %lock_table = load ptr, ptr %lock_table_at
  br label %arguments

arguments:                                            ; hold them: from here on Python may run
  %i = load i64, ptr %held_n
  %more_arguments = icmp slt i64 %i, %given
  br i1 %more_arguments, label %argument, label %guards
argument:
  %array = call ptr @pointer(ptr %arrays, i64 %i)
  call void @Py_IncRef(ptr %array)
  %array_i = call i64 @next(ptr %held_n)
  call void @put(ptr %held, i64 %array_i, ptr %array)
  %array_data = call ptr @data(ptr %array)
  call void @put(ptr %table, i64 %array_i, ptr %array_data)
  br label %arguments

guards:
  %check_at = getelementptr %Form, ptr %form, i32 0, i32 9
  %check = load ptr, ptr %check_at
  %unguarded = icmp eq ptr %check, null
  br i1 %unguarded, label %locking, label %ask
ask:
  %answer = call ptr @PyObject_CallNoArgs(ptr %check)
  %no_answer = icmp eq ptr %answer, null
  br i1 %no_answer, label %end, label %answered
answered:
  call void @Py_DecRef(ptr %answer)
  %true = load ptr, ptr @true
  %holds = icmp eq ptr %answer, %true
  br i1 %holds, label %locking, label %end

locking:
  %l = load i64, ptr %locked_n
  %more_locks = icmp slt i64 %l, %locks
  br i1 %more_locks, label %lock, label %captures
lock:
  %acquire_i = mul i64 %l, 2
  %acquire = call ptr @pointer(ptr %lock_table, i64 %acquire_i)
  %acquired = call ptr @PyObject_CallNoArgs(ptr %acquire)
  %interrupted = icmp eq ptr %acquired, null
  br i1 %interrupted, label %end, label %locked
locked:
  call void @Py_DecRef(ptr %acquired)
  %lock_i = call i64 @next(ptr %locked_n)
  br label %locking

captures:
  %captures_at = getelementptr %Form, ptr %form, i32 0, i32 12
  %captures_code = load ptr, ptr %captures_at
  store ptr %captures_code, ptr %code_at
  br label %next_capture
next_capture:
  %code = load ptr, ptr %code_at
  %what = load i64, ptr %code
  %all_captured = icmp eq i64 %what, 0
  br i1 %all_captured, label %outputs_begin, label %one_capture
one_capture:
  %captured = call ptr @capture(ptr %code_at)
  %not_captured = icmp eq ptr %captured, null
  br i1 %not_captured, label %end, label %hold_capture
hold_capture:
  %capture_i = call i64 @next(ptr %held_n)
  call void @put(ptr %held, i64 %capture_i, ptr %captured)
  %captured_data = call ptr @data(ptr %captured)
  call void @put(ptr %table, i64 %capture_i, ptr %captured_data)
  br label %next_capture

outputs_begin:
  %inputs = load i64, ptr %held_n
  br label %making
making:
  %o = load i64, ptr %made_n
  %more_outputs = icmp slt i64 %o, %outputs
  br i1 %more_outputs, label %make, label %verify_begin
make:
  %spec = getelementptr %Output, ptr %specs, i64 %o
  %variable_at = getelementptr %Output, ptr %spec, i32 0, i32 3
  %variable = load ptr, ptr %variable_at
  %input_at = getelementptr %Output, ptr %spec, i32 0, i32 4
  %input_i = load i64, ptr %input_at
  %may_take = icmp sge i64 %input_i, 0
  br i1 %may_take, label %consider, label %fresh
consider:
  %input = call ptr @pointer(ptr %held, i64 %input_i)
  %once = call i1 @held_once(ptr %variable, ptr %input)
  br i1 %once, label %take, label %fresh
take:
  %old = call ptr @slot(ptr %variable, ptr @variable_tensor)
  br label %place
fresh:
  %new = call ptr @new_tensor(ptr %spec)
  %not_made = icmp eq ptr %new, null
  br i1 %not_made, label %end, label %place
place:
  %output = phi ptr [ %old, %take ], [ %new, %fresh ]
  %is_over = phi i64 [ 1, %take ], [ 0, %fresh ]
  %over_o = getelementptr i64, ptr %over, i64 %o
  store i64 %is_over, ptr %over_o
  %made_i = call i64 @next(ptr %made_n)
  call void @put(ptr %made, i64 %made_i, ptr %output)
  %output_array = call ptr @slot(ptr %output, ptr @tensor_array)
  %output_data = call ptr @data(ptr %output_array)
  %output_word = add i64 %inputs, %o
  call void @put(ptr %table, i64 %output_word, ptr %output_data)
  br label %making

verify_begin:                                         ; making outputs may have run finalizers
  store i64 0, ptr %k_at
  br label %verify
verify:
  %v = call i64 @next(ptr %k_at)
  %more_verify = icmp slt i64 %v, %outputs
  br i1 %more_verify, label %verify_one, label %go
verify_one:
  %v_over = call i64 @word(ptr %over, i64 %v)
  %v_is_over = icmp ne i64 %v_over, 0
  br i1 %v_is_over, label %verify_once, label %verify
verify_once:
  %v_spec = getelementptr %Output, ptr %specs, i64 %v
  %v_variable_at = getelementptr %Output, ptr %v_spec, i32 0, i32 3
  %v_variable = load ptr, ptr %v_variable_at
  %v_input_at = getelementptr %Output, ptr %v_spec, i32 0, i32 4
  %v_input_i = load i64, ptr %v_input_at
  %v_input = call ptr @pointer(ptr %held, i64 %v_input_i)
  %still_once = call i1 @held_once(ptr %v_variable, ptr %v_input)
  br i1 %still_once, label %verify, label %end

go:
  br i1 %releases, label %leave, label %entries
leave:                                                ; who reads a variable meanwhile must wait
  %none = load ptr, ptr @none
  call void @swap_values(ptr %plan, ptr %none)
  %thread = call ptr @PyEval_SaveThread()
  br label %entries
entries:
  %saved = phi ptr [ null, %go ], [ %thread, %leave ]
  %entries_at = getelementptr %Plan, ptr %plan, i32 0, i32 6
  %entries_n = load i64, ptr %entries_at
  %entry_table_at = getelementptr %Plan, ptr %plan, i32 0, i32 7
  %entry_table = load ptr, ptr %entry_table_at
  %status_at = getelementptr %Plan, ptr %plan, i32 0, i32 5
  %status = load ptr, ptr %status_at
  store i64 0, ptr %k_at
  br label %entry
entry:
  %e = call i64 @next(ptr %k_at)
  %more_entries = icmp slt i64 %e, %entries_n
  br i1 %more_entries, label %enter, label %ran
enter:
  %function = call ptr @pointer(ptr %entry_table, i64 %e)
  %code_returned = call i32 %function(ptr %status, ptr %table)
  %fine = icmp eq i32 %code_returned, 0
  br i1 %fine, label %entry, label %ran
ran:
  %success = phi i1 [ true, %entry ], [ false, %enter ]
  br i1 %releases, label %return, label %decide
return:
  call void @PyEval_RestoreThread(ptr %saved)
  call void @swap_values(ptr %plan, ptr null)
  br label %decide
decide:
  br i1 %success, label %commit_begin, label %end     ; `plain` fails again, and says why

commit_begin:
  store i64 %returned, ptr %k_at
  br label %commit
commit:
  %c = call i64 @next(ptr %k_at)
  %more_commits = icmp slt i64 %c, %outputs
  br i1 %more_commits, label %commit_one, label %build
commit_one:
  %c_over = call i64 @word(ptr %over, i64 %c)
  %c_in_place = icmp ne i64 %c_over, 0
  br i1 %c_in_place, label %commit, label %install
install:
  %c_spec = getelementptr %Output, ptr %specs, i64 %c
  %c_variable_at = getelementptr %Output, ptr %c_spec, i32 0, i32 3
  %c_variable = load ptr, ptr %c_variable_at
  %c_old = call ptr @slot(ptr %c_variable, ptr @variable_tensor)
  %c_new = call ptr @pointer(ptr %made, i64 %c)
  call void @set_slot(ptr %c_variable, ptr @variable_tensor, ptr %c_new)
  call void @put(ptr %made, i64 %c, ptr null)
  call void @Py_DecRef(ptr %c_old)
  br label %commit

build:
  %count_at = getelementptr %Form, ptr %form, i32 0, i32 16
  %count = call i64 @next(ptr %count_at)
  %built = call ptr @result(ptr %form, ptr %made)
  store ptr %built, ptr %result
  br label %end

end:                                                  ; give back what this call holds
  %end_locks = load i64, ptr %locked_n
  %any_locks = icmp sgt i64 %end_locks, 0
  br i1 %any_locks, label %unlock_begin, label %drop_begin
unlock_begin:
  call void @PyErr_Fetch(ptr %error_type, ptr %error, ptr %error_trace)
  br label %unlock
unlock:
  %u = load i64, ptr %locked_n
  %u_last = sub i64 %u, 1
  store i64 %u_last, ptr %locked_n
  %u_pair = mul i64 %u_last, 2
  %u_i = add i64 %u_pair, 1
  %unlocker = call ptr @pointer(ptr %lock_table, i64 %u_i)
  %unlocked = call ptr @PyObject_CallNoArgs(ptr %unlocker)
  call void @Py_DecRef(ptr %unlocked)
  %more_unlocks = icmp sgt i64 %u_last, 0
  br i1 %more_unlocks, label %unlock, label %restore
restore:
  %e_type = load ptr, ptr %error_type
  %e_value = load ptr, ptr %error
  %e_trace = load ptr, ptr %error_trace
  call void @PyErr_Restore(ptr %e_type, ptr %e_value, ptr %e_trace)
  br label %drop_begin
drop_begin:
  store i64 0, ptr %k_at
  br label %drop
drop:
  %d = call i64 @next(ptr %k_at)
  %d_n = load i64, ptr %made_n
  %more_drops = icmp slt i64 %d, %d_n
  br i1 %more_drops, label %drop_one, label %let_go_begin
drop_one:
  %d_over = call i64 @word(ptr %over, i64 %d)
  %d_made = call ptr @pointer(ptr %made, i64 %d)
  %d_own = icmp eq i64 %d_over, 0
  %d_there = icmp ne ptr %d_made, null
  %d_drop = and i1 %d_own, %d_there
  br i1 %d_drop, label %drop_now, label %drop
drop_now:
  call void @Py_DecRef(ptr %d_made)
  br label %drop
let_go_begin:
  store i64 0, ptr %k_at
  br label %let_go
let_go:
  %g = call i64 @next(ptr %k_at)
  %g_n = load i64, ptr %held_n
  %more_held = icmp slt i64 %g, %g_n
  br i1 %more_held, label %let_go_one, label %done
let_go_one:
  %g_held = call ptr @pointer(ptr %held, i64 %g)
  call void @Py_DecRef(ptr %g_held)
  br label %let_go
done:
  store i64 0, ptr %busy_at
  %found = load ptr, ptr %result
  ret ptr %found
}

; Put `value` into the variables whose memory is being written, or their tensors again if it is
; null. `value` is None, whose references are counted.
define internal void @swap_values(ptr %plan, ptr %value) {
  %k_at = alloca i64
  store i64 0, ptr %k_at
  %outputs_at = getelementptr %Plan, ptr %plan, i32 0, i32 8
  %outputs = load i64, ptr %outputs_at
  %specs_at = getelementptr %Plan, ptr %plan, i32 0, i32 9
  %specs = load ptr, ptr %specs_at
  %made_at = getelementptr %Plan, ptr %plan, i32 0, i32 11
  %made = load ptr, ptr %made_at
  %over_at = getelementptr %Plan, ptr %plan, i32 0, i32 12
  %over = load ptr, ptr %over_at
  %back = icmp eq ptr %value, null
  br label %step
step:
  %k = call i64 @next(ptr %k_at)
  %more = icmp slt i64 %k, %outputs
  br i1 %more, label %one, label %done
one:
  %is_over = call i64 @word(ptr %over, i64 %k)
  %concerned = icmp ne i64 %is_over, 0
  br i1 %concerned, label %swap, label %step
swap:
  %spec = getelementptr %Output, ptr %specs, i64 %k
  %variable_at = getelementptr %Output, ptr %spec, i32 0, i32 3
  %variable = load ptr, ptr %variable_at
  br i1 %back, label %restore, label %remove
remove:
  call void @Py_IncRef(ptr %value)
  call void @set_slot(ptr %variable, ptr @variable_tensor, ptr %value)
  br label %step
restore:
  %none = call ptr @slot(ptr %variable, ptr @variable_tensor)
  %tensor = call ptr @pointer(ptr %made, i64 %k)
  call void @set_slot(ptr %variable, ptr @variable_tensor, ptr %tensor)
  call void @Py_DecRef(ptr %none)
  br label %step
done:
  ret void
}

; What the call returns, made of the tensors in `made`, which it takes over; or null with an
; exception.
define internal ptr @result(ptr %form, ptr %made) {
  %k_at = alloca i64
  store i64 0, ptr %k_at
  %returned_at = getelementptr %Form, ptr %form, i32 0, i32 13
  %returned = load i64, ptr %returned_at
  %kind_at = getelementptr %Form, ptr %form, i32 0, i32 14
  %kind = load i64, ptr %kind_at
  switch i64 %kind, label %list [
    i64 0, label %single
    i64 1, label %tuple
  ]
single:
  %only = load ptr, ptr %made
  store ptr null, ptr %made
  ret ptr %only

tuple:
  %new_tuple = call ptr @PyTuple_New(i64 %returned)
  %no_tuple = icmp eq ptr %new_tuple, null
  br i1 %no_tuple, label %failed, label %tuple_items
tuple_items:
  %t = call i64 @next(ptr %k_at)
  %tuple_more = icmp slt i64 %t, %returned
  br i1 %tuple_more, label %tuple_item, label %tuple_done
tuple_item:
  %tuple_value = call ptr @pointer(ptr %made, i64 %t)
  call void @put(ptr %made, i64 %t, ptr null)
  %tuple_set = call i32 @PyTuple_SetItem(ptr %new_tuple, i64 %t, ptr %tuple_value)
  br label %tuple_items
tuple_done:
  ret ptr %new_tuple

list:
  %new_list = call ptr @PyList_New(i64 %returned)
  %no_list = icmp eq ptr %new_list, null
  br i1 %no_list, label %failed, label %list_items
list_items:
  %l = call i64 @next(ptr %k_at)
  %list_more = icmp slt i64 %l, %returned
  br i1 %list_more, label %list_item, label %list_done
list_item:
  %list_value = call ptr @pointer(ptr %made, i64 %l)
  call void @put(ptr %made, i64 %l, ptr null)
  %list_set = call i32 @PyList_SetItem(ptr %new_list, i64 %l, ptr %list_value)
  br label %list_items
list_done:
  %is_list = icmp eq i64 %kind, 2
  br i1 %is_list, label %listed, label %structured
listed:
  ret ptr %new_list
structured:
  %builder_at = getelementptr %Form, ptr %form, i32 0, i32 15
  %builder = load ptr, ptr %builder_at
  %structure = call ptr @PyObject_CallOneArg(ptr %builder, ptr %new_list)
  call void @Py_DecRef(ptr %new_list)
  ret ptr %structure
failed:
  ret ptr null
}

; The first plan whose open sizes are `sizes` and that no other call is using, or null.
define internal ptr @plan_for(ptr %form, ptr %sizes) {
  %plan_at = alloca ptr
  %k_at = alloca i64
  %n_at = getelementptr %Form, ptr %form, i32 0, i32 7
  %n = load i64, ptr %n_at
  %first_at = getelementptr %Form, ptr %form, i32 0, i32 8
  %first = load ptr, ptr %first_at
  store ptr %first, ptr %plan_at
  br label %look
look:
  %plan = load ptr, ptr %plan_at
  %none = icmp eq ptr %plan, null
  br i1 %none, label %no, label %there
there:
  %busy_at = getelementptr %Plan, ptr %plan, i32 0, i32 2
  %busy = load i64, ptr %busy_at
  %is_busy = icmp ne i64 %busy, 0
  %own_at = getelementptr %Plan, ptr %plan, i32 0, i32 1
  %own = load ptr, ptr %own_at
  store i64 0, ptr %k_at
  br i1 %is_busy, label %another, label %compare
compare:
  %k = call i64 @next(ptr %k_at)
  %more = icmp slt i64 %k, %n
  br i1 %more, label %size, label %yes
size:
  %mine = call i64 @word(ptr %own, i64 %k)
  %given = call i64 @word(ptr %sizes, i64 %k)
  %same = icmp eq i64 %mine, %given
  br i1 %same, label %compare, label %another
another:
  %next_at = getelementptr %Plan, ptr %plan, i32 0, i32 0
  %next = load ptr, ptr %next_at
  store ptr %next, ptr %plan_at
  br label %look
yes:
  ret ptr %plan
no:
  ret ptr null
}

; Put the arguments of a call into `registers` as `form` names them, defaults for those not given.
; False if they cannot be its arguments.
define internal i1 @bind(ptr %form, ptr %registers, ptr %arguments, i64 %n, ptr %names) {
  %k_at = alloca i64
  %j_at = alloca i64
  %parameters = load i64, ptr %form
  %positional_at = getelementptr %Form, ptr %form, i32 0, i32 1
  %positional = load i64, ptr %positional_at
  %few = icmp sle i64 %n, %positional
  br i1 %few, label %copy, label %no
copy:
  %bytes = mul i64 %n, 8
  call void @llvm.memcpy.p0.p0.i64(ptr %registers, ptr %arguments, i64 %bytes, i1 false)
  %complete = icmp eq i64 %n, %parameters
  %unnamed = icmp eq ptr %names, null
  %done = and i1 %complete, %unnamed
  br i1 %done, label %yes, label %clear_begin
clear_begin:
  %own_names_at = getelementptr %Form, ptr %form, i32 0, i32 2
  %own_names = load ptr, ptr %own_names_at
  %defaults_at = getelementptr %Form, ptr %form, i32 0, i32 3
  %defaults = load ptr, ptr %defaults_at
  store i64 %n, ptr %k_at
  br label %clear
clear:
  %c = call i64 @next(ptr %k_at)
  %more_clear = icmp slt i64 %c, %parameters
  br i1 %more_clear, label %clear_one, label %named_begin
clear_one:
  call void @put(ptr %registers, i64 %c, ptr null)
  br label %clear
named_begin:
  store i64 0, ptr %k_at
  br i1 %unnamed, label %fill, label %count
count:
  %names_n = call i64 @PyTuple_Size(ptr %names)
  br label %named
named:
  %k = call i64 @next(ptr %k_at)
  %more_named = icmp slt i64 %k, %names_n
  br i1 %more_named, label %named_one, label %fill
named_one:
  %name = call ptr @PyTuple_GetItem(ptr %names, i64 %k)
  store i64 0, ptr %j_at
  br label %search
search:
  %j = call i64 @next(ptr %j_at)
  %more_search = icmp slt i64 %j, %parameters
  br i1 %more_search, label %search_one, label %no
search_one:
  %own_name = call ptr @pointer(ptr %own_names, i64 %j)
  %same_name = icmp eq ptr %own_name, %name            ; names are interned
  br i1 %same_name, label %assign, label %search
assign:
  %before = call ptr @pointer(ptr %registers, i64 %j)
  %first_time = icmp eq ptr %before, null
  %named_i = add i64 %n, %k
  %value = call ptr @pointer(ptr %arguments, i64 %named_i)
  call void @put(ptr %registers, i64 %j, ptr %value)
  br i1 %first_time, label %named, label %no
fill:
  store i64 %n, ptr %k_at
  br label %default
default:
  %d = call i64 @next(ptr %k_at)
  %more_defaults = icmp slt i64 %d, %parameters
  br i1 %more_defaults, label %default_one, label %yes
default_one:
  %there = call ptr @pointer(ptr %registers, i64 %d)
  %given = icmp ne ptr %there, null
  br i1 %given, label %default, label %default_put
default_put:
  %own_default = call ptr @pointer(ptr %defaults, i64 %d)
  call void @put(ptr %registers, i64 %d, ptr %own_default)
  %has_default = icmp ne ptr %own_default, null
  br i1 %has_default, label %default, label %no
yes:
  ret i1 true
no:
  ret i1 false
}

; Make the call by `form` if it fits; see `run` for what null means.
define internal ptr @attempt(ptr %form, ptr %arguments, i64 %n, ptr %names) {
  %registers_at = getelementptr %Form, ptr %form, i32 0, i32 4
  %registers_n = load i64, ptr %registers_at
  %registers = alloca ptr, i64 %registers_n
  %arrays_at = getelementptr %Form, ptr %form, i32 0, i32 6
  %arrays_n = load i64, ptr %arrays_at
  %arrays = alloca ptr, i64 %arrays_n
  %sizes_at = getelementptr %Form, ptr %form, i32 0, i32 7
  %sizes_n = load i64, ptr %sizes_at
  %sizes = alloca i64, i64 %sizes_n
  %bound = call i1 @bind(ptr %form, ptr %registers, ptr %arguments, i64 %n, ptr %names)
  br i1 %bound, label %check, label %no
check:
  %code_at = getelementptr %Form, ptr %form, i32 0, i32 5
  %code = load ptr, ptr %code_at
  %ok = call i1 @fits(ptr %code, ptr %registers, ptr %arrays, ptr %sizes)
  br i1 %ok, label %plan, label %no
plan:
  %found = call ptr @plan_for(ptr %form, ptr %sizes)
  %missing = icmp eq ptr %found, null
  br i1 %missing, label %no, label %go
go:
  %result = call ptr @run(ptr %form, ptr %found, ptr %arrays)
  ret ptr %result
no:
  ret ptr null
}

; Is no trace in progress in this thread, and no recorder active? The attributes that `state` has in
; this thread lie in a dict of the thread's; that of the thread which asked last is kept at hand.
define internal i1 @idle() {
  %thread = call ptr @PyThreadState_Get()
  %id = call i64 @PyThreadState_GetID(ptr %thread)
  %last = load i64, ptr @thread
  %same_thread = icmp eq i64 %id, %last
  br i1 %same_thread, label %known, label %fetch
known:
  %kept = load ptr, ptr @attributes
  br label %look
fetch:
  %state = load ptr, ptr @state
  %dict_name = load ptr, ptr @dict_name
  %fetched = call ptr @PyObject_GetAttr(ptr %state, ptr %dict_name)
  %failed = icmp eq ptr %fetched, null
  br i1 %failed, label %clear, label %keep
keep:
  %old = load ptr, ptr @attributes
  store ptr %fetched, ptr @attributes
  store i64 %id, ptr @thread
  call void @Py_DecRef(ptr %old)
  br label %look
look:
  %attributes = phi ptr [ %kept, %known ], [ %fetched, %keep ]
  %builder_name = load ptr, ptr @builder_name
  %builder = call ptr @PyDict_GetItemWithError(ptr %attributes, ptr %builder_name)
  %none = load ptr, ptr @none
  %builder_none = icmp eq ptr %builder, %none
  %builder_unset = icmp eq ptr %builder, null
  %no_builder = or i1 %builder_none, %builder_unset
  br i1 %no_builder, label %recorders, label %busy
recorders:
  %recorders_name = load ptr, ptr @recorders_name
  %found = call ptr @PyDict_GetItemWithError(ptr %attributes, ptr %recorders_name)
  %empty = load ptr, ptr @empty
  %found_empty = icmp eq ptr %found, %empty
  %found_unset = icmp eq ptr %found, null
  %no_recorders = or i1 %found_empty, %found_unset
  ret i1 %no_recorders
clear:
  call void @PyErr_Clear()
  br label %busy
busy:
  ret i1 false
}

; The vectorcall of a function's `__call__`: positional arguments, then those that `names` names.
define ptr @call(ptr %function, ptr %arguments, i64 %n, ptr %names) {
  %k_at = alloca i64
  %named = icmp ne ptr %names, null
  %off = load i64, ptr @off
  %is_off = icmp ne i64 %off, 0
  br i1 %is_off, label %plainly, label %look
look:
  %forms = call ptr @slot(ptr %function, ptr @function_forms)
  %no_forms = icmp eq ptr %forms, null
  br i1 %no_forms, label %plainly, label %typed
typed:
  %type = call ptr @type(ptr %forms)
  %forms_type = load ptr, ptr @forms_type
  %is_forms = icmp eq ptr %type, %forms_type
  br i1 %is_forms, label %ready, label %plainly
ready:
  %idle = call i1 @idle()
  br i1 %idle, label %begin, label %plainly
begin:
  call void @Py_IncRef(ptr %forms)
  %words_array = call ptr @slot(ptr %forms, ptr @forms_words)
  %words = call ptr @data(ptr %words_array)
  %forms_n = load i64, ptr %words
  %latest_at = getelementptr i64, ptr %words, i64 1
  store i64 2, ptr %k_at
  br label %try
try:
  %k = call i64 @next(ptr %k_at)
  %last = add i64 %forms_n, 1
  %more = icmp sle i64 %k, %last
  br i1 %more, label %form, label %none_fits
form:
  %form_at = call ptr @pointer(ptr %words, i64 %k)
  %result = call ptr @attempt(ptr %form_at, ptr %arguments, i64 %n, ptr %names)
  %made = icmp ne ptr %result, null
  br i1 %made, label %note, label %why
note:
  store ptr %form_at, ptr %latest_at
  br label %done
why:
  %error = call ptr @PyErr_Occurred()
  %raised = icmp ne ptr %error, null
  br i1 %raised, label %done, label %try
done:
  call void @Py_DecRef(ptr %forms)
  ret ptr %result
none_fits:
  store ptr null, ptr %latest_at
  call void @Py_DecRef(ptr %forms)
  br label %plainly

plainly:
  br i1 %named, label %count_names, label %copy
count_names:
  %names_n = call i64 @PyTuple_Size(ptr %names)
  br label %copy
copy:
  %extra = phi i64 [ 0, %plainly ], [ %names_n, %count_names ]
  %all = add i64 %n, %extra
  %with_self = add i64 %all, 1
  %stack = alloca ptr, i64 %with_self
  store ptr %function, ptr %stack
  %rest = getelementptr ptr, ptr %stack, i64 1
  %bytes = mul i64 %all, 8
  call void @llvm.memcpy.p0.p0.i64(ptr %rest, ptr %arguments, i64 %bytes, i1 false)
  %positional = add i64 %n, 1
  %plain = load ptr, ptr @plain
  %plain_result = call ptr @PyObject_Vectorcall(ptr %plain, ptr %stack, i64 %positional, ptr %names)
  ret ptr %plain_result
}

; What self-tests look at: a tensor as `run` makes them.
define ptr @probe(ptr %output) {
  %tensor = call ptr @new_tensor(ptr %output)
  ret ptr %tensor
}
